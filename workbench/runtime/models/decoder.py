"""One lean decoder for the Llama-like families: fused projections, paged attention, no Python beyond the calls."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from workbench.core.weights import WeightRow
from workbench.runtime.linear import Linear
from workbench.runtime.models.decoder_config import DecoderConfig, rope_table
from workbench.runtime.quantization import MakeLinear, QuantizedLinear
from workbench_kernels.dispatch import KernelSet
from workbench_kernels.kv_cache import KVCache
from workbench_kernels.metadata import AttentionMetadata

# Gives the checkpoint's tensor of that name and shape, in the model's dtype and on its device. Raises if there is none.
GetWeight = Callable[[str, tuple[int, ...]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: torch.Tensor
    qkv: Linear | QuantizedLinear
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    out: Linear | QuantizedLinear
    post_norm: torch.Tensor
    gate_up: Linear | QuantizedLinear
    down: Linear | QuantizedLinear
    sliding_window: int


class Decoder:
    """Weights of a decoder-only transformer with rotary positions, RMS norms and gated feed-forwards.

    Norm gains and the rope table stay float32 whatever the dtype: they are small, and the kernels compute in float32.
    """

    def __init__(
        self,
        config: DecoderConfig,
        get: GetWeight,
        has: Callable[[str], bool],
        max_model_len: int,
        device: torch.device,
        make_linear: MakeLinear = Linear,
    ) -> None:
        self._make_linear = make_linear
        self.config = config
        width, vocab = (config.hidden_size,), (config.vocab_size, config.hidden_size)
        self.embedding = get("model.embed_tokens.weight", vocab)
        self.layers = [self._layer(index, get, has) for index in range(config.num_layers)]
        self.final_norm = self._gain(get("model.norm.weight", width))
        self.head = Linear(self.embedding, shared=True) if config.tied else Linear(get("lm_head.weight", vocab))
        self.cos_sin = rope_table(config, max_model_len).to(device)
        self.scale = config.head_size**-0.5

    def _gain(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.float() + 1.0 if self.config.unit_offset_norm else weight.float()

    def _layer(self, index: int, get: GetWeight, has: Callable[[str], bool]) -> _Layer:
        config = self.config
        prefix = f"model.layers.{index}."

        def linear(rows: dict[str, int], columns: int) -> Linear | QuantizedLinear:
            """One matrix of the named ones, each [rows, columns], under one another."""
            weights = [get(f"{prefix}{name}.weight", (count, columns)) for name, count in rows.items()]
            biases = [
                get(f"{prefix}{name}.bias", (count,)) for name, count in rows.items() if has(f"{prefix}{name}.bias")
            ]
            join = weights[0] if len(weights) == 1 else torch.cat(weights)
            return self._make_linear(join, torch.cat(biases) if biases else None)

        def gain(name: str, size: int) -> torch.Tensor:
            return self._gain(get(f"{prefix}{name}.weight", (size,)))

        hidden, inner, size = config.hidden_size, config.intermediate_size, config.head_size
        queries, keys = config.num_heads * size, config.num_kv_heads * size
        if config.fused_projections:
            qkv, gate_up = {"self_attn.qkv_proj": queries + 2 * keys}, {"mlp.gate_up_proj": 2 * inner}
        else:
            qkv = {"self_attn.q_proj": queries, "self_attn.k_proj": keys, "self_attn.v_proj": keys}
            gate_up = {"mlp.gate_proj": inner, "mlp.up_proj": inner}
        return _Layer(
            input_norm=gain("input_layernorm", hidden),
            qkv=linear(qkv, hidden),
            q_norm=gain("self_attn.q_norm", size) if config.qk_norm else None,
            k_norm=gain("self_attn.k_norm", size) if config.qk_norm else None,
            out=linear({"self_attn.o_proj": hidden}, queries),
            post_norm=gain("post_attention_layernorm", hidden),
            gate_up=linear(gate_up, hidden),
            down=linear({"mlp.down_proj": hidden}, inner),
            sliding_window=config.sliding_windows[index],
        )

    def forward(
        self,
        token_ids: torch.Tensor,
        meta: AttentionMetadata,
        kv_layers: Sequence[KVCache],
        kernels: KernelSet,
        sample_rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """See Model.forward. After the last attention only the rows that sample go on."""
        config = self.config
        heads, kv_heads, size = config.num_heads, config.num_kv_heads, config.head_size
        activate = kernels.silu_and_mul if config.activation == "silu" else kernels.gelu_tanh_and_mul
        residual = F.embedding(token_ids, self.embedding)
        if config.embedding_scale != 1.0:
            residual = residual * torch.tensor(config.embedding_scale, dtype=residual.dtype)
        x = kernels.rms_norm(residual, self.layers[0].input_norm, config.eps)
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(x, kernels)
            kv_cache = kv_layers[index]
            kernels.rope_and_write_kv(qkv, self.cos_sin, kv_cache, meta, heads, layer.q_norm, layer.k_norm, config.eps)
            q, k, v = qkv.view(-1, heads + 2 * kv_heads, size).split((heads, kv_heads, kv_heads), 1)
            x = kernels.paged_attention(q, k, v, kv_cache, meta, self.scale, layer.sliding_window)
            x = x.view(-1, heads * size)
            if index == last and sample_rows is not None:
                x, residual = x[sample_rows], residual[sample_rows]
            x = kernels.add_rms_norm(layer.out(x, kernels), residual, layer.post_norm, config.eps)
            x = layer.down(activate(layer.gate_up(x, kernels)), kernels)
            norm = self.final_norm if index == last else self.layers[index + 1].input_norm
            x = kernels.add_rms_norm(x, residual, norm, config.eps)
        return self.head(x, kernels).float()

    @property
    def num_parameters(self) -> int:
        """See Model.num_parameters."""
        head = () if self.config.tied else (self.head,)
        matrices = [*head, *(matrix for layer in self.layers for _, matrix in _matrices(layer))]
        gains = [self.final_norm, *(gain for layer in self.layers for gain in _gains(layer))]
        return sum(part.num_parameters for part in matrices) + sum(x.numel() for x in (self.embedding, *gains))

    def tensors(self) -> Iterator[torch.Tensor]:
        """See Model.tensors."""
        yield from (self.embedding, self.final_norm, self.cos_sin)
        if not self.config.tied:
            yield from self.head.tensors()
        for layer in self.layers:
            for _, matrix in _matrices(layer):
                yield from matrix.tensors()
            yield from _gains(layer)

    def weights(self) -> Iterator[WeightRow]:
        """See Model.weights."""

        def plain(name: str, tensors: list[torch.Tensor], note: str = "") -> WeightRow:
            shape = tuple(tensors[0].shape) if len(tensors) == 1 else (sum(t.numel() for t in tensors),)
            kind = str(tensors[0].dtype).removeprefix("torch.")
            return WeightRow(name, shape, kind, sum(t.nbytes for t in tensors), note)

        def matrix_row(name: str, matrix: Linear | QuantizedLinear) -> WeightRow:
            info, held = matrix.info, sum(t.nbytes for t in matrix.tensors())
            bias = matrix.bias_bytes
            return WeightRow(name, info.shape, info.stored_as, held, info.note, bias, matrix is not self.head)

        yield plain("embeddings", [self.embedding], "also the output head" if self.config.tied else "")
        for index, layer in enumerate(self.layers):
            for name, matrix in _matrices(layer):
                yield matrix_row(f"layer {index} {name}", matrix)
        if not self.config.tied:
            yield matrix_row("output head", self.head)
        yield plain("norms", [self.final_norm, *(gain for layer in self.layers for gain in _gains(layer))])
        yield plain("rotary table", [self.cos_sin], "computed from the config")


def _matrices(layer: _Layer) -> tuple[tuple[str, Linear | QuantizedLinear], ...]:
    return ("qkv", layer.qkv), ("attention out", layer.out), ("gate and up", layer.gate_up), ("down", layer.down)


def _gains(layer: _Layer) -> Iterator[torch.Tensor]:
    for gain in (layer.input_norm, layer.q_norm, layer.k_norm, layer.post_norm):
        if gain is not None:
            yield gain
