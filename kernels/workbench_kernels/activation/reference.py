"""Gated activations in float32: what every other implementation is held to."""

import math

import torch


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """gate / (1 + e ** -gate) * up, with gate and up the halves of the last axis of x [T, 2 * width]."""
    gate, up = x.float().chunk(2, -1)
    return (gate / (1 + torch.exp(-gate)) * up).to(x.dtype)


def gelu_tanh_and_mul(x: torch.Tensor) -> torch.Tensor:
    """The same with the tanh approximation of GELU."""
    gate, up = x.float().chunk(2, -1)
    inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
    return (0.5 * gate * (1 + torch.tanh(inner)) * up).to(x.dtype)
