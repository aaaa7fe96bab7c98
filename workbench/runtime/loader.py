"""Load a model: find its folder, refuse what is unsafe or cannot run, choose the code that runs it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from tqdm.auto import tqdm

from workbench.core.config import EngineArgs, ModelSpec
from workbench.core.errors import ConfigError, DoesNotFitError, ModelLoadError
from workbench.core.units import size_text
from workbench.runtime.bundled import bundled_config, bundled_tokenizer
from workbench.runtime.checkpoints import Stored, find_gguf, stored_quantized
from workbench.runtime.linear import Linear, cpu_computes_bfloat16
from workbench.runtime.memory import free_bytes
from workbench.runtime.models.base import AttentionShape, Model
from workbench.runtime.models.decoder import Decoder
from workbench.runtime.models.decoder_config import DecoderConfig, UnsupportedByDecoder, decoder_config
from workbench.runtime.quantization import check_quantization, quantized_linear
from workbench.runtime.sparsity import check_sparsity
from workbench.runtime.tokenizer import Tokenizer
from workbench.runtime.weights import Checkpoint, count_numbers, find_weight_files

if TYPE_CHECKING:
    from workbench.runtime.models.transformers_model import TransformersModel

_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py", "*.gguf")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run. tokenizer: None for a model of bare token ids. notes: what was decided for the user."""

    model: Model
    spec: ModelSpec
    tokenizer: Tokenizer | None
    dtype: torch.dtype
    notes: tuple[str, ...]


def load_model(args: EngineArgs) -> LoadedModel:
    """Load args.model onto args.device.

    Raises ModelLoadError (missing, unreadable, of a kind that cannot run), UnsafeModelError (pickled weights, or code
    in the folder without trust_remote_code), ConfigError (a setting that contradicts the model), DoesNotFitError (no
    memory left; nothing is kept).
    """
    device = _device(args.device)
    check_quantization(args.weight_format, device)
    folder = _folder(args.model)
    gguf_file = find_gguf(folder)
    config = _config(args, folder, gguf_file)
    stored = stored_quantized(config, gguf_file)
    dtype, notes = _dtype(args.dtype, config, device)
    if args.sparsity is not None:
        if stored is not None:
            raise ConfigError(f"the checkpoint is in {stored.format} format, which cannot be pruned; omit sparsity")
        check_sparsity(args.sparsity, device, dtype)
    max_model_len = _max_model_len(args.max_model_len, config)
    weight_files = [] if gguf_file is not None else find_weight_files(folder)
    try:
        lean: DecoderConfig | None = decoder_config(config) if stored is None else None
    except UnsupportedByDecoder as reason:
        lean = None
        notes += (f"runs through transformers' own modules, as the lean decoder does not cover it: {reason}",)
    with _told_where_memory_runs_out(weight_files, dtype, device):
        make_linear = Linear if args.weight_format is None else quantized_linear(args.weight_format)
        quantization = args.quantization
        model: Model
        if lean is None:
            # As in _config: only where it is needed.
            from workbench.runtime.models.transformers_model import TransformersModel

            fallback = TransformersModel(folder, dtype, device, args.trust_remote_code, make_linear, stored)
            if stored is not None:
                quantization, note = _stored_as(args, stored, fallback, dtype)
                notes += (note,)
            model, backend, shape = fallback, "transformers", fallback.shape
        else:
            with (
                Checkpoint(weight_files, dtype, device) as checkpoint,
                tqdm(total=len(checkpoint), desc="Loading weights", unit="tensor", delay=1.0, leave=False) as bar,
            ):

                def get(name: str, shape: tuple[int, ...]) -> torch.Tensor:
                    bar.update()
                    return checkpoint.get(name, shape)

                model = Decoder(lean, get, checkpoint.has, max_model_len, device, make_linear)
            backend = "decoder"
            shape = AttentionShape(lean.num_layers, lean.num_heads, lean.num_kv_heads, lean.head_size)
    spec = _spec(args, folder, config, backend, device, dtype, max_model_len, shape, model, quantization)
    return LoadedModel(model, spec, _tokenizer(args, folder), dtype, notes)


@contextmanager
def _told_where_memory_runs_out(weight_files: list[Path], dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)):
            raise
        matrices, others = count_numbers(weight_files)
        need, free = (matrices + others) * dtype.itemsize, free_bytes(device)
        if not need:  # a GGUF file, whose sizes only its reader knows
            message = f"the weights do not fit on {device}, which has {free:,} bytes free"
            raise DoesNotFitError(message, have=free, change="load a smaller model, or free memory") from error
        short = str(dtype).removeprefix("torch.")
        # About: a scale for every 64 inputs. Only the layers' matrices are quantized.
        sizes = {
            "dtype='bfloat16'": 2 * (matrices + others),
            "quantization='int8'": matrices + matrices * dtype.itemsize // 64 + others * dtype.itemsize,
            "quantization='int4'": matrices // 2 + matrices * dtype.itemsize // 64 + others * dtype.itemsize,
        }
        fitting = [f"{name} needs about {size:,} bytes" for name, size in sizes.items() if size <= min(free, need - 1)]
        raise DoesNotFitError(
            f"the weights in {short} need {need:,} bytes, and {device} has {free:,} free",
            need,
            free,
            fitting[0] if fitting else "load a smaller model, or free memory",
        ) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', not {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name!r} was asked for, and torch sees no CUDA device here; use device='cpu'")
    return device


def _folder(model: str | None) -> Path:
    if model is None:
        return Path(str(files("workbench").joinpath("embedded", "model")))
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelLoadError(f"{model!r} is a file; give the folder that holds config.json and the weights")
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelLoadError(
            f"there is no folder {model!r}; give a model's folder, a hub id, or None for the bundled model"
        )
    try:
        return Path(snapshot_download(model, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelLoadError(
            f"there is no folder {model!r}, and the hub gave no model of that name ({type(error).__name__}); check the "
            "spelling and the network, or give a model's folder"
        ) from error


def _stored_as(args: EngineArgs, stored: Stored, model: "TransformersModel", dtype: torch.dtype) -> tuple[str, str]:
    """What became of a quantized checkpoint, for the settings and as a note: packed, dequantized, or packed anew."""
    short = str(dtype).removeprefix("torch.")
    if not model.holds_plain_matrices and args.quantization is None:
        return stored.format, (
            f"the checkpoint is in {stored.format} format; transformers and its library run it as it is stored"
        )
    if args.quantization is not None:
        if any(row.stored_as == args.quantization for row in model.weights()):
            return args.quantization, (
                f"the checkpoint is in {stored.format} format; it was written out in {short} and quantized again as "
                f"{args.quantization}"
            )
        raise ConfigError(
            f"the checkpoint is in {stored.format} format and runs as it is stored; quantization={args.quantization!r} "
            "cannot be put on top, leave it out"
        )
    held = size_text(sum(row.bytes for row in model.weights()))
    return f"{stored.format}, dequantized", (
        f"the checkpoint is in {stored.format} format and runs dequantized: transformers writes its weights out in "
        f"{short} on this device, {held} in all; quantization='int8' "
        "or 'int4' packs them again"
    )


def _config(args: EngineArgs, folder: Path, gguf_file: str | None) -> Any:
    if args.model is None:
        return bundled_config(folder)
    # About half of the time of a first LLM would go into importing transformers' modelling code: only where needed.
    from workbench.runtime.auto_classes import read_config

    return read_config(folder, args.trust_remote_code, gguf_file)


def _dtype(name: str, config: Any, device: torch.device) -> tuple[torch.dtype, tuple[str, ...]]:
    wanted = config.dtype if name == "auto" else name
    dtype = getattr(torch, wanted) if isinstance(wanted, str) else wanted or torch.float32
    if name != "auto" or device.type != "cpu" or dtype is torch.float32:
        return dtype, ()
    if dtype is torch.bfloat16 and cpu_computes_bfloat16():
        return dtype, ()
    short = str(dtype).removeprefix("torch.")
    note = (
        f"the checkpoint is {short}, which this CPU computes several times slower than float32: loaded as float32, at "
        f"twice the memory; dtype={short!r} insists"
    )
    return torch.float32, (note,)


def _max_model_len(asked: int | None, config: Any) -> int:
    context = getattr(config, "max_position_embeddings", None)
    if context is None:
        if asked is None:
            raise ConfigError("this model's config names no context length; set max_model_len")
        return asked
    if asked is not None and asked > context:
        raise ConfigError(f"max_model_len={asked} is more than the {context} tokens of the model's context; lower it")
    return int(asked or context)


def _spec(
    args: EngineArgs,
    folder: Path,
    config: Any,
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
    max_model_len: int,
    shape: AttentionShape,
    model: Model,
    quantization: str | None,
) -> ModelSpec:
    return ModelSpec(
        name="bundled" if args.model is None else args.model,
        architecture=(config.architectures or [config.model_type])[0],
        backend=backend,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        vocab_size=config.vocab_size,
        max_model_len=max_model_len,
        num_layers=shape.num_layers,
        hidden_size=config.hidden_size,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_size=shape.head_size,
        num_parameters=model.num_parameters,
        weight_bytes=sum(row.bytes for row in model.weights()),
        kv_bytes_per_token=2 * shape.num_layers * shape.num_kv_heads * shape.head_size * dtype.itemsize,
        eos_token_ids=_eos_token_ids(folder, config),
        quantization=quantization,
        sparsity=args.sparsity,
    )


def _eos_token_ids(folder: Path, config: Any) -> tuple[int, ...]:
    found = config.eos_token_id
    path = folder / "generation_config.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id", found)
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)


def _tokenizer(args: EngineArgs, folder: Path) -> Tokenizer | None:
    source = folder if args.tokenizer is None else _folder(args.tokenizer)
    if not any(
        (source / name).is_file()
        for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
    ):
        if args.tokenizer is not None:
            raise ModelLoadError(f"tokenizer={args.tokenizer!r} holds no tokenizer files")
        return None
    if args.model is None and args.tokenizer is None:
        return Tokenizer(bundled_tokenizer(folder))
    # As in _config: only where it is needed.
    from workbench.runtime.auto_classes import read_tokenizer

    return Tokenizer(read_tokenizer(source, args.trust_remote_code))
