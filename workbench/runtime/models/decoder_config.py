"""A Llama-like decoder's shape and variations, read from a Hugging Face config; what it does not cover is refused."""

import math
from dataclasses import dataclass
from typing import Any

import torch

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma")
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


class UnsupportedByDecoder(Exception):
    """This config needs something that the lean decoder lacks; the message says what."""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """rotary_dim: features of a head that rotate. sliding_windows: one per layer, 0 for none.

    unit_offset_norm: norms multiply by 1 + weight (Gemma). embedding_scale: factor on token embeddings.
    fused_projections: the checkpoint holds qkv_proj and gate_up_proj (Phi-3).
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int
    eps: float
    activation: str
    rotary_dim: int
    rope: dict[str, Any]
    sliding_windows: tuple[int, ...]
    qk_norm: bool
    unit_offset_norm: bool
    embedding_scale: float
    fused_projections: bool
    tied: bool


def decoder_config(config: Any) -> DecoderConfig:
    """Translate a transformers config. Raises UnsupportedByDecoder, naming what is missing."""
    family = config.model_type
    if family not in _FAMILIES:
        raise UnsupportedByDecoder(f"model type {family!r} is not one of {', '.join(_FAMILIES)}")
    rope = dict(config.rope_parameters or {})
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "linear", "llama3"):
        raise UnsupportedByDecoder(f"rope type {kind!r}")
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if family == "gemma" and activation == "gelu":
        activation = "gelu_pytorch_tanh"
    if activation not in _ACTIVATIONS:
        raise UnsupportedByDecoder(f"activation {activation!r}")
    if getattr(config, "use_bidirectional_attention", None):
        raise UnsupportedByDecoder("bidirectional attention")
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    layers = config.num_hidden_layers
    return DecoderConfig(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=head_size,
        vocab_size=config.vocab_size,
        eps=config.rms_norm_eps,
        activation=_ACTIVATIONS[activation],
        rotary_dim=int(head_size * rope.get("partial_rotary_factor", 1.0)),
        rope=rope,
        sliding_windows=_sliding_windows(config, layers),
        qk_norm=family == "qwen3",
        unit_offset_norm=family == "gemma",
        embedding_scale=math.sqrt(config.hidden_size) if family == "gemma" else 1.0,
        fused_projections=family == "phi3",
        tied=bool(config.tie_word_embeddings),
    )


def _sliding_windows(config: Any, layers: int) -> tuple[int, ...]:
    window = getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return (window,) * layers
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown:
        raise UnsupportedByDecoder(f"layer types {', '.join(sorted(unknown))}")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def rope_table(config: DecoderConfig, num_positions: int) -> torch.Tensor:
    """Cosines and sines [num_positions, rotary_dim] (cosines first), in float32.

    "linear" divides every frequency by a factor; "llama3" divides the low ones, keeps the high ones and blends between,
    as Llama 3.1's release describes.
    """
    rope = config.rope
    exponents = torch.arange(0, config.rotary_dim, 2, dtype=torch.int64).float() / config.rotary_dim
    frequencies = 1.0 / (rope["rope_theta"] ** exponents)
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        frequencies = frequencies / rope["factor"]
    elif kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        turns = rope["original_max_position_embeddings"] / (2 * math.pi / frequencies)  # over the original context
        blend = ((turns - low) / (high - low)).clamp(0.0, 1.0)
        frequencies = (1 - blend) * frequencies / rope["factor"] + blend * frequencies
    angles = torch.arange(num_positions, dtype=torch.int64).float()[:, None] * frequencies[None, :]
    return torch.cat((angles.cos(), angles.sin()), -1)
