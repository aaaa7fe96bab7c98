"""A weight matrix and how this machine multiplies by it fastest."""

import torch
from torch.nn import functional as F


class Linear:
    """y = x W^T + b for x [rows, in]; weight [out, in], bias [out] or None."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)
