"""How far an implementation may be from its reference, and why: the one table, for the tests and for `check`."""

from typing import NamedTuple

import torch


class Tolerance(NamedTuple):
    """Largest difference, relative to the largest magnitude in the reference; and the reason for that bound."""

    bound: float
    why: str


_F32 = "sums in another order; float32 has 24 bits, some hundred terms lose a few of them"
_BF16 = "one rounding of the result to 8 bits, half a unit in the last place is 2 ** -9; inputs are the same bits"
_F16 = "one rounding of the result to 11 bits, half a unit in the last place is 2 ** -12"

TOLERANCES = {
    ("paged_attention", torch.float32): Tolerance(2e-6, _F32),
    ("paged_attention", torch.bfloat16): Tolerance(2**-8, _BF16 + "; torch's SDPA also rounds its weights"),
    ("paged_attention", torch.float16): Tolerance(2**-11, _F16 + "; torch's SDPA also rounds its weights"),
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
