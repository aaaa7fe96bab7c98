"""How far an implementation may be from its reference, and why: the one table."""

from typing import NamedTuple

import torch


class Tolerance(NamedTuple):
    """Largest difference, relative to the largest magnitude in the reference; and the reason for that bound."""

    bound: float
    why: str


_F32 = "sums in another order; float32 has 24 bits, some hundred terms lose a few of them"
_BF16 = "one rounding of the result to 8 bits, half a unit in the last place is 2 ** -9; inputs are the same bits"

TOLERANCES = {
    ("paged_attention", torch.float32): Tolerance(2e-6, _F32),
    ("paged_attention", torch.bfloat16): Tolerance(2**-8, _BF16 + "; torch's SDPA also rounds its weights"),
    ("rope_kv", torch.float32): Tolerance(1e-6, _F32),
    ("rope_kv", torch.bfloat16): Tolerance(2**-7, _BF16 + "; the norm before the rotation rounds once more"),
    ("rms_norm", torch.float32): Tolerance(1e-6, _F32),
    ("rms_norm", torch.bfloat16): Tolerance(2**-8, _BF16),
    ("activation", torch.float32): Tolerance(1e-6, _F32 + "; our own exponential is exact to 1e-7"),
    ("activation", torch.bfloat16): Tolerance(2**-7, _BF16 + "; torch rounds the activation before it multiplies"),
    ("quant_matmul", torch.float32): Tolerance(2e-6, _F32),
    ("quant_matmul", torch.bfloat16): Tolerance(
        2**-7, _BF16 + "; torch rounds the weights and the sum before the bias"
    ),
}


def check_close(op: str, ours: torch.Tensor, reference: torch.Tensor) -> None:
    """Fail unless ours is finite, of the reference's shape, and within the table's bound of it."""
    tolerance = TOLERANCES[op, ours.dtype]
    assert ours.shape == reference.shape
    assert ours.isfinite().all(), f"{op} made NaN or infinity"
    error = (ours.double() - reference.double()).abs().max() / reference.double().abs().max()
    assert error <= tolerance.bound, f"{op}: off by {error:.2e} of the largest value, allowed {tolerance.bound:.2e}"
