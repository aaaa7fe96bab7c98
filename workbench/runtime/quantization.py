"""Weights in fewer bits: which formats there are, which a device can run, and how a matrix is stored.

Only the matrices of the layers are quantized. Embeddings, output head, norms and biases stay in the model's dtype, as
they do in bitsandbytes and vLLM: they are a small part of a large model, and errors in the head cost the most.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch

from workbench.core.config import SPARSITIES
from workbench.core.errors import ConfigError
from workbench.core.weights import WeightRow
from workbench.runtime.linear import Linear, MatrixInfo
from workbench.runtime.sparsity import check_sparsity, packed_bytes, pruned_linear, qualifies
from workbench_kernels.dispatch import KernelSet
from workbench_kernels.quant_matmul.packing import PACKED, QuantizedWeight, quantize

METHODS = ("int8", "int4", "nf4", "fp8")
# Inputs that share a scale: fewer are more precise, and a scale costs as much as two to eight weights.
GROUP_SIZES = (64, 32)
FP8_CAPABILITY = (8, 9)

# Stores one matrix [out, in] with its bias.
MakeLinear = Callable[[torch.Tensor, torch.Tensor | None], "Linear | QuantizedLinear"]


class QuantizedLinear:
    """y = x W^T + b for x [rows, in], with W packed. Multiplied packed; see KernelSet.choices for how."""

    __slots__ = ("_bias", "info", "weight")

    def __init__(self, weight: QuantizedWeight, bias: torch.Tensor | None, note: str) -> None:
        self.weight = weight
        self._bias = bias
        self.info = MatrixInfo(weight.shape, weight.format, note)

    def __call__(self, x: torch.Tensor, kernels: KernelSet) -> torch.Tensor:
        return kernels.quant_matmul(x, self.weight, self._bias)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What it holds."""
        held = (self.weight.data, self.weight.scales)
        return held if self._bias is None else (*held, self._bias)

    @property
    def bias_bytes(self) -> int:
        """Bytes of the bias."""
        return 0 if self._bias is None else self._bias.nbytes

    @property
    def num_parameters(self) -> int:
        """Learned numbers, as many as there were before."""
        outputs, inputs = self.weight.shape
        return outputs * inputs + (0 if self._bias is None else outputs)


def check_quantization(method: str | None, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Raise ConfigError for a method (or sparsity) that there is not, or that this device or dtype cannot run."""
    if method is None or method in ("int8", "int4", "nf4"):
        return
    if method in SPARSITIES:
        check_sparsity(method, device, dtype)
        return
    if method != "fp8":
        raise ConfigError(f"quantization must be None or one of {', '.join(METHODS)}, not {method!r}")
    if device.type != "cuda":
        raise ConfigError(
            f"quantization='fp8' needs a GPU that multiplies float8, and this is {device.type}; use 'int8', which "
            "takes as many bytes and is more precise"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < FP8_CAPABILITY:
        have, need = (".".join(map(str, pair)) for pair in (capability, FP8_CAPABILITY))
        raise ConfigError(
            f"quantization='fp8' needs compute capability {need}, and {device} has {have}; use 'int8', which takes as "
            "many bytes"
        )


def group_size(method: str, inputs: int) -> int | None:
    """How many inputs share a scale; None where a matrix of so many cannot be stored that way."""
    if method == "fp8":
        return inputs
    found = next((size for size in GROUP_SIZES if inputs % size == 0), None)
    if found is None and method == "int8" and inputs % 8 == 0:
        return inputs
    return found


def predicted_bytes(rows: Iterable[WeightRow], method: str | None, dtype: torch.dtype) -> int:
    """Bytes that a model with these matrices would take, stored by another method."""
    held = 0
    for row in rows:
        if not row.quantizable:
            held += row.bytes
            continue
        outputs, inputs = row.shape
        if method == "2:4" and qualifies(outputs, inputs):
            held += packed_bytes(outputs, inputs) + row.bias_bytes
            continue
        size = None if method in SPARSITIES else group_size(str(method), inputs)
        if size is None:
            held += outputs * inputs * dtype.itemsize + row.bias_bytes
        else:
            numbers = outputs * inputs // (2 if method in PACKED else 1)
            held += numbers + outputs * (inputs // size) * dtype.itemsize + row.bias_bytes
    return held


def quantized_linear(method: str) -> MakeLinear:
    """What stores a matrix by that method; one whose inputs fit no group is left as it is, and says so."""

    if method in SPARSITIES:
        return partial(pruned_linear, method)

    def make(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear | QuantizedLinear:
        inputs = weight.shape[1]
        size = group_size(method, inputs)
        if size is None:
            least = GROUP_SIZES[-1] if method in PACKED else 8
            return Linear(weight, bias, note=f"left as it was: {inputs} inputs are no multiple of {least}")
        return QuantizedLinear(quantize(weight, method, size), bias, f"a scale for every {size} inputs")

    return make
