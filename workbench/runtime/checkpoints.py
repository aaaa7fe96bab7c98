"""Checkpoints whose weights are quantized already: which libraries read them, and what runs in the end.

transformers reads them, through the library that keeps each format; our part is to say plainly which library is
missing, and what became of the weights: some formats are written out in full where the device has no kernel for them.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.core.errors import ModelLoadError

# What has to be installed to read a format (import name -> what pip calls it), beyond transformers itself.
_LIBRARIES = {
    "gptq": {"optimum": "optimum", "gptqmodel": "gptqmodel"},
    "awq": {"gptqmodel": "gptqmodel"},
    "compressed-tensors": {"compressed_tensors": "compressed-tensors"},
    "bitsandbytes": {"bitsandbytes": "bitsandbytes", "accelerate": "accelerate"},
    "torchao": {"torchao": "torchao"},
    "fp8": {"accelerate": "accelerate"},
    "gguf": {"gguf": "gguf"},
}


@dataclass(frozen=True, slots=True)
class Stored:
    """How a folder's weights are quantized. format: a name of _LIBRARIES; gguf_file: the one file that holds a GGUF."""

    format: str
    gguf_file: str | None = None


def find_gguf(folder: Path) -> str | None:
    """The name of the folder's GGUF file if its weights are in one. Raises ModelLoadError if there are several."""
    found = sorted(path.name for path in folder.glob("*.gguf"))
    if not found or any(folder.glob("*.safetensors")):
        return None
    if len(found) > 1:
        raise ModelLoadError(f"{folder} holds {len(found)} GGUF files ({', '.join(found[:3])}); keep one in a folder")
    return found[0]


def stored_quantized(config: Any, gguf_file: str | None) -> Stored | None:
    """How the checkpoint is quantized, or None. Raises ModelLoadError for an unknown format or a missing library."""
    if gguf_file is not None:
        stored = Stored("gguf", gguf_file)
    else:
        about = getattr(config, "quantization_config", None)
        if about is None:
            return None
        about = about if isinstance(about, dict) else about.to_dict()
        stored = Stored(str(about.get("quant_method", "unknown")))
    check_library(stored.format)
    return stored


def check_library(name: str) -> None:
    """Raise ModelLoadError unless what reads this format is installed."""
    if name not in _LIBRARIES:
        raise ModelLoadError(f"the checkpoint is quantized as {name!r}; known are {', '.join(_LIBRARIES)}")
    missing = [package for module, package in _LIBRARIES[name].items() if find_spec(module) is None]
    if missing:
        extra = "" if "gptqmodel" in missing else " (all of pip install 'inference-workbench[quantized]')"
        raise ModelLoadError(
            f"the checkpoint is in {name} format, and what reads it is not installed: pip install "
            f"{' '.join(missing)}{extra}"
        )


def held_bytes(tensor: Any) -> int:
    """Bytes behind a tensor of any kind: those of the plain tensors it is made of, and of what dequantizes it."""
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(held_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    held: int = tensor.nbytes
    state = getattr(tensor, "quant_state", None)  # bitsandbytes, four bits
    for extra in (getattr(state, "absmax", None), getattr(state, "code", None), getattr(tensor, "SCB", None)):
        held += 0 if extra is None else extra.nbytes
    return held


def kind_of(tensor: Any) -> str:
    """ "float32", "int8", ... or, for a library's own kind of tensor, its name: "Params4bit", "Int8Tensor"."""
    if type(tensor).__module__.split(".")[0] == "torch":
        return str(tensor.dtype).removeprefix("torch.")
    return type(tensor).__name__


def is_plain(tensor: Any) -> bool:
    """True for a tensor of plain floating numbers with 16 bits or more, which can be quantized."""
    return kind_of(tensor) in ("float32", "bfloat16", "float16")
