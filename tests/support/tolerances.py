"""Holds an implementation to its reference, within the one table of tolerances."""

import torch

from workbench_kernels.tolerances import TOLERANCES


def check_close(op: str, ours: torch.Tensor, reference: torch.Tensor) -> None:
    """Fail unless ours is finite, of the reference's shape, and within the table's bound of it."""
    tolerance = TOLERANCES[op, ours.dtype]
    assert ours.shape == reference.shape
    assert ours.isfinite().all(), f"{op} made NaN or infinity"
    error = (ours.double() - reference.double()).abs().max() / reference.double().abs().max()
    assert error <= tolerance.bound, f"{op}: off by {error:.2e} of the largest value, allowed {tolerance.bound:.2e}"
