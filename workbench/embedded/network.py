"""The network as it is trained: a Llama decoder in plain torch, with dropout, saved under Hugging Face's names.

Separate from the engine's own decoder on purpose: this one has to train, that one has to serve from a paged cache. A
saved folder opens with transformers' LlamaForCausalLM and with the engine alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.embedded.data import CONTEXT, END_ID, VOCAB_SIZE


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama decoder with tied embeddings; head_dim is hidden / heads."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int = VOCAB_SIZE
    context: int = CONTEXT
    rope_theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions in the half-split layout; x [batch, heads, length, head_dim], cos and sin [length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Norm(nn.Module):
    """RMS norm with a learned gain."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        wide = x.float()
        return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Causal attention with fewer key/value heads than query heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [batch, length, hidden] to the same shape."""
        batch, length, hidden = x.shape
        heads, kv_heads, width = self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        q = self.q_proj(x).view(batch, length, heads, width).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, kv_heads, width).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, kv_heads, width).transpose(1, 2)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        k = k.repeat_interleave(heads // kv_heads, dim=1)
        v = v.repeat_interleave(heads // kv_heads, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, hidden))
        return out


class Mlp(nn.Module):
    """SwiGLU feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, length, hidden] to the same shape."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One decoder layer; dropout acts on what each half adds to the residual."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden, shape.eps)
        self.mlp = Mlp(shape)
        self.dropout = dropout

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [batch, length, hidden] to the same shape."""
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), self.dropout, self.training)


class Decoder(nn.Module):
    """The whole model; parameter names match Hugging Face's below ``model.``."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape, dropout) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.eps)
        half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), shape.rope_theta**-half)
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # What writes to the residual starts smaller, so that depth does not blow it up.
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5 if writes else 0.02)

    def logits(self, ids: Tensor) -> Tensor:
        """Scores for every next token: ids int64 [batch, length] to [batch, length, vocab]."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats per token; ids and targets int64 [batch, length]."""
        return F.cross_entropy(self.logits(ids).float().flatten(0, 1), targets.flatten())

    def parameter_count(self) -> int:
        """Number of weights; the tied embedding counts once."""
        return sum(weight.numel() for weight in self.parameters())


def keep_mantissa(weight: Tensor, bits: int) -> Tensor:
    """bfloat16 with only ``bits`` of its 7 mantissa bits in use, rounded to nearest; the zeros behind them compress."""
    raw = weight.detach().to(torch.bfloat16).contiguous().view(torch.int16).to(torch.int32)
    unused = 7 - bits
    half = (1 << unused) >> 1
    return (((raw + half) >> unused) << unused).to(torch.int16).view(torch.bfloat16)


def save(model: Decoder, folder: Path, mantissa_bits: int = 7) -> None:
    """Write config.json, generation_config.json and model.safetensors (bfloat16, matrices with ``mantissa_bits``).

    The config says float32 so that every loader computes in float32; the stored bits are half that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = model.shape
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "pad_token_id": END_ID,
        "dtype": "float32",
    }
    generation = {"bos_token_id": END_ID, "eos_token_id": END_ID, "pad_token_id": END_ID, "do_sample": False}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    weights = {
        f"model.{name}": keep_mantissa(weight, mantissa_bits if weight.ndim > 1 else 7)
        for name, weight in model.named_parameters()
    }
    # Written whole and then renamed, so that a reader never meets half a file.
    save_file(weights, folder / "model.safetensors.part", metadata={"format": "pt"})
    (folder / "model.safetensors.part").chmod(0o644)
    (folder / "model.safetensors.part").replace(folder / "model.safetensors")


def load(model: Decoder, weights: Path) -> None:
    """Read what ``save`` wrote back into a model of the same shape; the optimiser starts afresh."""
    stored = load_file(weights)
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in stored.items()})
