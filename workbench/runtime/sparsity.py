"""2:4 sparsity: of every four weights that follow each other in a row, the two smallest are dropped.

GPUs since compute capability 8.0 store what is left as half of the values and two bits of place for each, and multiply
by it at up to twice the speed (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021). "2:4" stores a matrix
so; "2:4-dense" drops the same weights and stores the zeros, which any device can do, to see what it costs in quality.
"""

from collections.abc import Iterable, Iterator

import torch

from workbench.core.errors import ConfigError
from workbench.core.units import size_text
from workbench.core.weights import WeightRow
from workbench.runtime.linear import Linear

CAPABILITY = (8, 0)
# What torch's kernels take of either kind (CUTLASS and cuSPARSELt).
OUTPUTS, INPUTS = 32, 64
VALUE_BYTES = 2
MOST_SHAPES = 6


class PrunedLinear(Linear):
    """y = x W^T + b with W pruned 2:4; packed: stored as half of the values and their places."""

    __slots__ = ("_numbers", "_packed")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, packed: bool) -> None:
        pruned = prune(weight)
        self._packed = packed
        self._numbers = weight.numel() + (0 if bias is None else bias.numel())
        if not packed:
            super().__init__(pruned, bias, note="2 of every 4 weights are zeros, stored and computed all the same")
            return
        super().__init__(torch.sparse.to_sparse_semi_structured(pruned), bias)
        kind = str(weight.dtype).removeprefix("torch.")
        note = "2 of every 4 weights, and 2 bits of place for each"
        self.info = self.info._replace(stored_as=f"2:4 {kind}", note=note)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What it holds: of a packed matrix its parts."""
        if not self._packed:
            return super().tensors()
        parts = (getattr(self._weight, name) for name in ("packed", "meta", "packed_t", "meta_t"))
        return tuple(part for part in (*parts, self._bias) if part is not None)

    @property
    def num_parameters(self) -> int:
        """Learned numbers, as many as there were before."""
        return self._numbers


def prune(weight: torch.Tensor) -> torch.Tensor:
    """A copy of a matrix [out, in] with the two smallest magnitudes of every four inputs zeroed; of equal ones the
    last."""
    groups = weight.reshape(-1, 4)
    order = groups.abs().argsort(dim=1, descending=True, stable=True)
    return groups.scatter(1, order[:, 2:], 0.0).view_as(weight)


def pruned_linear(sparsity: str, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """A matrix stored "2:4" or "2:4-dense"; one whose shape does not qualify is left as it is, and says so."""
    if not qualifies(*weight.shape):
        note = f"left as it was: 2:4 takes outputs in multiples of {OUTPUTS}, inputs in multiples of {INPUTS}"
        return Linear(weight, bias, note=note)
    return PrunedLinear(weight, bias, packed=sparsity == "2:4")


def qualifies(outputs: int, inputs: int) -> bool:
    """True for a shape that can be stored 2:4."""
    return outputs % OUTPUTS == 0 and inputs % INPUTS == 0


def packed_bytes(outputs: int, inputs: int) -> int:
    """Half of the values, in 16 bits each, and two bits of place for each that is kept."""
    kept = outputs * inputs // 2
    return kept * VALUE_BYTES + kept * 2 // 8


def check_sparsity(sparsity: str, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Raise ConfigError where this device, or the model's dtype if given, cannot multiply packed 2:4 matrices."""
    if sparsity != "2:4":
        return
    if device.type != "cuda":
        raise ConfigError(
            "sparsity='2:4' needs a GPU of compute capability 8.0 or more, which multiplies packed 2:4 matrices, and "
            f"this is {device.type}; sparsity='2:4-dense' computes with the same pruned weights here, and saves nothing"
        )
    have = torch.cuda.get_device_capability(device)
    if have < CAPABILITY:
        raise ConfigError(f"sparsity='2:4' needs compute capability 8.0, and {device} has {have[0]}.{have[1]}")
    if dtype is not None and dtype.itemsize != VALUE_BYTES:
        raise ConfigError("sparsity='2:4' needs a model in 16 bits; load it with dtype='bfloat16'")
    try:  # whether torch was built with a kernel for this GPU only shows when one is asked for
        tried = torch.sparse.to_sparse_semi_structured(prune(torch.ones(64, 64, dtype=torch.bfloat16, device=device)))
        torch.nn.functional.linear(torch.ones(1, 64, dtype=torch.bfloat16, device=device), tried)
    except (RuntimeError, NotImplementedError) as error:
        raise ConfigError(f"sparsity='2:4' cannot run on {device} with this torch: {error}") from error


def forecast(rows: Iterable[WeightRow], dtype: torch.dtype) -> str:
    """What the layers' matrices would take, packed 2:4, in words and numbers, by shape."""
    matrices = [row for row in rows if row.quantizable]
    fitting = [row for row in matrices if qualifies(*row.shape)]
    packed = sum(packed_bytes(*row.shape) + row.bias_bytes for row in fitting)
    values = dtype if dtype.itemsize == VALUE_BYTES else torch.bfloat16
    kind = str(values).removeprefix("torch.")
    parts = list(_by_shape(fitting))
    more = [f"{len(parts) - MOST_SHAPES} more shapes"] if len(parts) > MOST_SHAPES else []
    return (
        f"predicted: {len(fitting)} of {len(matrices)} matrices of the layers qualify, and would take "
        f"{size_text(packed)} with values in {kind} where they take {size_text(sum(row.bytes for row in fitting))} now"
        f" ({', '.join([*parts[:MOST_SHAPES], *more])})"
    )


def _by_shape(rows: Iterable[WeightRow]) -> Iterator[str]:
    shapes: dict[tuple[int, ...], int] = {}
    for row in rows:
        shapes[row.shape] = shapes.get(row.shape, 0) + 1
    for (outputs, inputs), count in shapes.items():
        yield f"{count} of {outputs} × {inputs}: {size_text(packed_bytes(outputs, inputs))} each"
