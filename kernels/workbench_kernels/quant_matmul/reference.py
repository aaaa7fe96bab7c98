"""The product in float32, with the weights written out: what every other implementation is held to."""

import torch

from workbench_kernels.quant_matmul.packing import QuantizedWeight, dequantize


def quant_matmul(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [M, K] times the weight's transpose, plus bias [N]: [M, N] in x's dtype."""
    product = x.float() @ dequantize(weight).t()
    return (product if bias is None else product + bias.float()).to(x.dtype)
