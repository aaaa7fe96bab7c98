"""Kernels compile where machine code cannot be kept."""

from typing import Any

import numba
import numpy as np
import pytest

from workbench_kernels.jit import kernel


def test_without_a_writable_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_kernel = numba.njit

    def refuse_cache(*args: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_kernel(*args, **options)

    monkeypatch.setattr(numba, "njit", refuse_cache)

    def double(x: np.ndarray) -> None:
        for i in range(x.shape[0]):
            x[i] *= 2

    x = np.arange(4.0, dtype=np.float32)
    kernel(double)(x)
    assert x.tolist() == [0, 2, 4, 6]


def test_nan_and_infinity_keep_their_meaning() -> None:
    @kernel
    def largest(x: np.ndarray) -> float:
        top = np.float32(-np.inf)
        for i in range(x.shape[0]):
            top = max(top, x[i])
        return top

    assert largest(np.array([], np.float32)) == -np.inf
    assert largest(np.array([1, np.inf], np.float32)) == np.inf
