"""What every Triton kernel here needs: a decorator that also holds under the interpreter, and rounding as a GPU does.

Importing this imports Triton; only the triton_impl modules do. With TRITON_INTERPRET=1 in the environment before Triton
is first imported, kernels run on a CPU, through numpy: slowly, but statement by statement as written.
"""

import threading
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))

# The interpreter replaces functions of triton.language while a kernel runs, so threads have to take turns.
_TURN = threading.Lock()


class _OneAtATime:
    def __init__(self, function: Any) -> None:
        self._function = function

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **options: Any) -> None:
            with _TURN:
                self._function[grid](*arguments, **options)

        return launch


def kernel(function: Callable[..., Any]) -> Any:
    """triton.jit for a kernel that is launched as kernel[grid](...); plain triton.jit is for what kernels call."""
    compiled = triton.jit(function)
    return _OneAtATime(compiled) if INTERPRETED.value else compiled


def dot_type(dtype: torch.dtype) -> Any:
    """The type in which tl.dot multiplies tensors of this dtype: their own, float32 where the interpreter cannot."""
    if INTERPRETED.value or dtype is torch.float32:
        return tl.float32
    return tl.bfloat16 if dtype is torch.bfloat16 else tl.float16


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """Float32 x in another type, rounded to the nearest, ties to even, also where the interpreter would cut it off."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)
