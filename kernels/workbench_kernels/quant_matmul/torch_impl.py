"""Products with quantized weights in plain torch: writes the matrix out, then multiplies."""

import torch

from workbench_kernels.quant_matmul.packing import QuantizedWeight, dequantize


def quant_matmul(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None = None) -> torch.Tensor:
    """As reference.quant_matmul, in x's dtype throughout; saves memory between steps, not time."""
    return torch.nn.functional.linear(x, dequantize(weight).to(x.dtype), bias)
