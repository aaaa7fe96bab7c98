"""One decorator for every numba kernel: releases the GIL, compiles on first use, keeps the machine code when it can."""

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a plain loop on its first call, for any thread, with the GIL released.

    Machine code is kept next to the source or, where that cannot be written, in the user's cache folder; where neither
    can, it is compiled once per process. Reassociation is allowed (sums vectorise), infinities and NaN keep their
    meaning, as -inf marks a masked score and NaN must reach the caller to be reported.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "fastmath": {"contract", "reassoc", "nsz", "arcp"},
        "error_model": "numpy",
    }
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # numba found no folder to write to
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
