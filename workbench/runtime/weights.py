"""Tensors of a checkpoint folder, read from safetensors one at a time."""

import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from workbench.core.errors import ModelLoadError, UnsafeModelError

INDEX = "model.safetensors.index.json"


def find_weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files. Raises UnsafeModelError where weights exist as pickle files only."""
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError) as error:
            raise ModelLoadError(f"{folder / INDEX} cannot be read: {error}") from error
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ModelLoadError(f"{folder / INDEX} names weight files that are not there: {', '.join(missing)}")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise UnsafeModelError(
            f"{folder} has its weights in pickle files only ({', '.join(pickles[:3])}), and reading a pickle can run "
            "any code; convert them to safetensors (save_pretrained does) and load that folder"
        )
    raise ModelLoadError(f"{folder} holds no weights: no *.safetensors file")


def count_numbers(files: list[Path]) -> tuple[int, int]:
    """How many numbers the files hold in the layers' matrices and besides, from their headers alone."""
    counts = [0, 0]
    for path in files:
        with safe_open(path, framework="pt", device="cpu") as opened:
            names = list(opened.keys())
            for name in names:
                shape = opened.get_slice(name).get_shape()
                in_a_layer = len(shape) == 2 and any(part.isdigit() for part in name.split("."))
                counts[not in_a_layer] += math.prod(shape)
    return counts[0], counts[1]


class Checkpoint:
    """Reads tensors by name; a context manager, as it holds files open."""

    def __init__(self, files: list[Path], dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._owner: dict[str, Any] = {}
        self._files: list[Any] = []
        for path in files:
            try:
                opened = safe_open(path, framework="pt", device="cpu").__enter__()
            except (OSError, SafetensorError) as error:
                self.close()
                raise ModelLoadError(f"{path} is not a readable safetensors file: {error}") from error
            self._files.append(opened)
            self._owner.update(dict.fromkeys(opened.keys(), opened))

    def __len__(self) -> int:
        return len(self._owner)

    def has(self, name: str) -> bool:
        """True if there is a tensor of that name."""
        return name in self._owner

    def get(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """A copy of the tensor, in the model's dtype and on its device. Raises ModelLoadError for another shape."""
        if name not in self._owner:
            raise ModelLoadError(f"the checkpoint has no tensor {name!r}; its files are incomplete or of another model")
        stored: torch.Tensor = self._owner[name].get_tensor(name)
        if tuple(stored.shape) != shape:
            raise ModelLoadError(
                f"the checkpoint's tensor {name!r} has shape {tuple(stored.shape)} and config.json asks for {shape}; "
                "they belong to different models"
            )
        return stored.to(self._device, self._dtype, copy=True)

    def close(self) -> None:
        """Close the files."""
        for opened in self._files:
            opened.__exit__(None, None, None)
        self._files.clear()
        self._owner.clear()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
