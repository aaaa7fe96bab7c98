"""The fallback: any causal language model through transformers' own modules, with our paged attention inside.

transformers lets a model's attention function be chosen by name. Ours finds the step at hand (KV tensors, metadata,
kernels) in an object that is attached to the attention module itself, so two models in one process know nothing of each
other. A model is tried on a few tokens when it is loaded, against its own attention, and refused where ours differs.
"""

from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import ModelLoadError
from workbench.core.weights import WeightRow
from workbench.runtime.checkpoints import Stored, held_bytes, is_plain, kind_of
from workbench.runtime.linear import Linear
from workbench.runtime.models.base import AttentionShape
from workbench.runtime.quantization import MakeLinear, QuantizedLinear
from workbench.runtime.sparsity import PrunedLinear
from workbench_kernels.dispatch import KernelSet, select_kernels
from workbench_kernels.kv_cache import KVCache
from workbench_kernels.metadata import AttentionMetadata, make_metadata

ATTENTION_NAME = "workbench_paged"
_PROBE_BLOCK = 4


class _Unsupported(Exception):
    """Attention was called in a way that paged attention has no answer to; the message says which."""


class _Step:
    """What attention modules need of the step at hand. Attached to every module of a model, and empty between steps."""

    __slots__ = ("kernels", "kv_layers", "layer_of", "meta", "new_layers")

    def __init__(self) -> None:
        self.kv_layers: Sequence[KVCache] = ()
        self.meta: AttentionMetadata | None = None
        self.kernels: KernelSet | None = None
        self.layer_of: dict[int, int] = {}  # id of an attention module -> its layer, in order of first use
        self.new_layers: list[torch.Tensor] | None = None  # while probing: KV tensors made to fit each layer


def _paged_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query [1, heads, T, head_size] -> [1, T, heads, head_size]."""
    step: _Step = module._workbench_step  # type: ignore[assignment]
    meta, kernels = step.meta, step.kernels
    if meta is None or kernels is None:
        raise ModelLoadError("this model was loaded by the workbench's engine and runs inside it only")
    for name in ("position_bias", "s_aux"):
        if kwargs.get(name) is not None:
            raise _Unsupported(f"its attention uses {name}")
    if key.shape[2] != query.shape[2]:
        raise _Unsupported("its attention looks at other tokens than its own (cross attention or a cache of its own)")
    if kwargs.get("is_causal", getattr(module, "is_causal", True)) is False:
        raise _Unsupported("its attention is not causal")
    if key.shape[3] != value.shape[3] or key.shape[3] != query.shape[3]:
        raise _Unsupported("its keys and values differ in size")
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    layer = step.layer_of.setdefault(id(module), len(step.layer_of))
    if step.new_layers is not None and layer == len(step.new_layers):
        blocks = int(meta.block_tables.max()) + 1
        step.new_layers.append(k.new_zeros(2, blocks, _PROBE_BLOCK, k.shape[1], k.shape[2]))
    kv_cache = step.kv_layers[layer]
    kernels.write_kv(k, v, kv_cache, meta)
    scale = q.shape[2] ** -0.5 if scaling is None else scaling
    out = kernels.paged_attention(q, k, v, kv_cache, meta, scale, sliding_window or 0, softcap or 0.0)
    return out[None], None


def _no_mask(*_: Any, **__: Any) -> None:
    """transformers' mask function: paged attention needs no mask, as it knows which tokens belong together."""


class TransformersModel:
    """A transformers model that reads and writes a paged KV cache. Raises ModelLoadError where it cannot."""

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        device: torch.device,
        trust_remote_code: bool,
        make_linear: MakeLinear = Linear,
        stored: Stored | None = None,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": trust_remote_code}
        if stored is not None and stored.gguf_file is not None:
            options["gguf_file"] = stored.gguf_file
        elif stored is not None and device.type != "cpu":
            options["device_map"] = {"": device}  # some libraries quantize for a device and cannot move afterwards
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, **options)
        except Exception as error:  # transformers raises many kinds for a model that it cannot build
            raise ModelLoadError(f"transformers cannot load {folder}: {error}") from error
        self._model = model.eval().requires_grad_(False)
        if next(model.parameters()).device != device:
            self._model.to(device)
        self._tolerance = (1e-3 if dtype is torch.float32 else 5e-2) if stored is None else 5e-2
        self._step = _Step()
        self._takes_rows = "logits_to_keep" in signature(type(model).forward).parameters
        self.shape = self._probe(folder)
        self._replace_matrices(make_linear)

    def _probe(self, folder: Path) -> AttentionShape:
        """Run two short sequences together through paged attention, and the second alone through the model's own."""
        model, step = self._model, self._step
        device = next(model.parameters()).device
        vocab = model.config.get_text_config().vocab_size
        tokens = torch.arange(3, 11, device=device) % vocab
        alone = tokens[5:]
        with torch.inference_mode():
            places = torch.arange(3, device=device)
            try:
                own = model(input_ids=alone[None], position_ids=places[None], use_cache=False).logits
            except Exception as error:  # whatever its code raises, it is the model that does not run
                raise ModelLoadError(
                    f"{folder} ({type(model).__name__}) fails on three tokens in transformers itself: {error}"
                ) from error
            self._use_paged_attention(folder)
            lengths = np.array([5, 3])
            tables = np.array([[0, 1], [2, 3]], np.int32)
            dtype = next(model.parameters()).dtype
            kernels = select_kernels(device, dtype, head_size=1, backend="torch")  # not known yet; torch's takes any
            meta = make_metadata(np.array([0, 5, 8]), lengths, np.arange(2), tables, _PROBE_BLOCK, device)
            step.new_layers = []
            try:
                ours = self.forward(tokens, meta, step.new_layers, kernels, None)
            except _Unsupported as reason:
                raise ModelLoadError(f"{folder} cannot run on a paged KV cache: {reason}") from reason
            layers, step.new_layers = step.new_layers, None
        shapes = {tuple(layer.shape[3:]) for layer in layers}
        expected = model.config.get_text_config().num_hidden_layers
        if len(layers) != expected or len(shapes) != 1:
            raise ModelLoadError(
                f"{folder} ({type(model).__name__}) cannot run on a paged KV cache: {len(layers)} of its {expected} "
                f"layers use transformers' attention interface, with {len(shapes)} different shapes of keys; all must, "
                "with one"
            )
        error = (ours[5:] - own[0].float()).abs().max() / own.float().abs().max()
        if not error < self._tolerance:
            raise ModelLoadError(
                f"{folder} ({type(model).__name__}) cannot run on a paged KV cache: its answers differ from those with "
                "its own attention, so it uses positions or neighbours in a way of its own"
            )
        ((kv_heads, size),) = shapes
        return AttentionShape(expected, model.config.get_text_config().num_attention_heads, kv_heads, size)

    def _use_paged_attention(self, folder: Path) -> None:
        # transformers looks both up by name in tables of the process; the functions hold no state.
        ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _paged_attention_forward)
        ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _no_mask)
        for module in self._model.modules():
            object.__setattr__(module, "_workbench_step", self._step)
        try:
            self._model.set_attn_implementation(ATTENTION_NAME)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ModelLoadError(
                f"{folder} ({type(self._model).__name__}) cannot run on a paged KV cache: transformers offers no "
                "choice of attention function for it"
            ) from error

    def forward(
        self,
        token_ids: torch.Tensor,
        meta: AttentionMetadata,
        kv_layers: Sequence[KVCache],
        kernels: KernelSet,
        sample_rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """See Model.forward."""
        step = self._step
        step.meta, step.kv_layers, step.kernels = meta, kv_layers, kernels
        rows = {"logits_to_keep": sample_rows} if self._takes_rows and sample_rows is not None else {}
        try:
            logits = self._model(
                input_ids=token_ids[None], position_ids=meta.device.positions[None], use_cache=False, **rows
            ).logits[0]
        finally:
            step.meta, step.kv_layers, step.kernels = None, (), None
        if sample_rows is not None and not rows:
            logits = logits[sample_rows]
        return logits.float()  # type: ignore[no-any-return]

    def _replace_matrices(self, make_linear: MakeLinear) -> None:
        """Quantize the linear layers, all but the output head, one after another."""
        if make_linear is Linear:
            return
        head = self._model.get_output_embeddings()
        for name, module in list(self._model.named_modules()):
            turned = isinstance(module, Conv1D)  # GPT-2 keeps [in, out]
            if module is head or not (turned or type(module) is torch.nn.Linear):
                continue
            if not is_plain(module.weight):
                continue
            weight = module.weight.data.t().contiguous() if turned else module.weight.data
            made = make_linear(weight, None if module.bias is None else module.bias.data)
            if isinstance(made, (QuantizedLinear, PrunedLinear)):
                parent, _, leaf = name.rpartition(".")
                setattr(self._model.get_submodule(parent), leaf, _QuantizedModule(made, self._step))

    @property
    def holds_plain_matrices(self) -> bool:
        """True if some layer's matrix is held as plain floating numbers, which can be quantized."""
        head = self._model.get_output_embeddings()
        return any(
            module is not head and type(module) is torch.nn.Linear and is_plain(module.weight)
            for module in self._model.modules()
        )

    def _quantized(self) -> list[tuple[str, QuantizedLinear | PrunedLinear]]:
        return [(name, m.matrix) for name, m in self._model.named_modules() if isinstance(m, _QuantizedModule)]

    @property
    def num_parameters(self) -> int:
        """See Model.num_parameters."""
        return int(self._model.num_parameters()) + sum(matrix.num_parameters for _, matrix in self._quantized())

    def tensors(self) -> Iterator[torch.Tensor]:
        """See Model.tensors."""
        yield from self._model.parameters()
        yield from self._model.buffers()
        for _, matrix in self._quantized():
            yield from matrix.tensors()

    def weights(self) -> Iterator[WeightRow]:
        """See Model.weights."""
        for name, tensor in (*self._model.named_parameters(), *self._model.named_buffers()):
            module = self._model.get_submodule(name.rpartition(".")[0])
            turned = isinstance(module, Conv1D)
            matrix = name.endswith(".weight") and is_plain(tensor) and (turned or type(module) is torch.nn.Linear)
            matrix = matrix and module is not self._model.get_output_embeddings()
            shape = tuple(reversed(tensor.shape)) if turned and matrix else tuple(tensor.shape)
            yield WeightRow(name, shape, kind_of(tensor), held_bytes(tensor), quantizable=matrix)
        for name, matrix in self._quantized():
            info = matrix.info
            held = sum(t.nbytes for t in matrix.tensors())
            yield WeightRow(name, info.shape, info.stored_as, held, info.note, matrix.bias_bytes, True)


class _QuantizedModule(torch.nn.Module):
    """Stands in a transformers model where a linear layer was."""

    def __init__(self, matrix: QuantizedLinear | PrunedLinear, step: _Step) -> None:
        super().__init__()
        self.matrix = matrix
        object.__setattr__(self, "_workbench_step", step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> [..., out], within a step of the engine."""
        kernels = self._workbench_step.kernels
        if kernels is None:
            raise ModelLoadError("this model was loaded by the workbench's engine and runs inside it only")
        return self.matrix(x.reshape(-1, x.shape[-1]), kernels).view(*x.shape[:-1], -1)
