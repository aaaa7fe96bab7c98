"""A weight matrix, stored as the machine multiplies by it fastest.

Measured for the few rows of a decode step, with weights that no longer lie in the fast caches (AVX2, one thread, widths
192 and 576): float32 stored as [in, out] takes 55 to 90% of the time of [out, in]; oneDNN's packed form lies in between
for small matrices. With two threads and widths of 576 to 3,072 the packed form takes half of the time at 2 to 16 rows,
yet made one stream of a 135M-parameter model 1.2 to 1.5 times slower. bfloat16 goes through oneDNN's packed form where
the CPU has the instructions for it.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from workbench_kernels.dispatch import KernelSet


class MatrixInfo(NamedTuple):
    """Outputs and inputs of a matrix, how its numbers are stored, and why if that is not as asked for."""

    shape: tuple[int, int]
    stored_as: str
    note: str = ""


def cpu_computes_bfloat16() -> bool:
    """True if oneDNN multiplies bfloat16 on this CPU itself; otherwise it is several times slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear:
    """y = x W^T + b for x [rows, in]. weight [out, in] (kept as it is where it is shared), bias [out] or None."""

    __slots__ = ("_bias", "_form", "_weight", "info")

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None, shared: bool = False, note: str = ""
    ) -> None:
        outputs, inputs = weight.shape
        self.info = MatrixInfo((outputs, inputs), str(weight.dtype).removeprefix("torch."), note)
        self._bias = bias
        self._form = "plain"
        self._weight = weight
        if shared or weight.device.type != "cpu":
            return
        if weight.dtype is torch.float32:
            self._form = "transposed"
            self._weight = weight.t().contiguous()
        elif weight.dtype is torch.bfloat16 and cpu_computes_bfloat16():
            self._form = "packed"
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, x: torch.Tensor, kernels: KernelSet) -> torch.Tensor:
        if self._form == "transposed":
            return torch.mm(x, self._weight) if self._bias is None else torch.addmm(self._bias, x, self._weight)
        if self._form == "packed":
            packed: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return packed
        return F.linear(x, self._weight, self._bias)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What it holds."""
        return (self._weight,) if self._bias is None else (self._weight, self._bias)

    @property
    def bias_bytes(self) -> int:
        """Bytes of the bias."""
        return 0 if self._bias is None else self._bias.nbytes

    @property
    def num_parameters(self) -> int:
        """Learned numbers."""
        return sum(tensor.numel() for tensor in self.tensors())
