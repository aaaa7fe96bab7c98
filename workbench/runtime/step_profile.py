"""Where a forward's time goes, operation by operation: the same batch shape once more, with a clock around each part.

On a GPU the clock is the device's own (events), so that launching is not counted; elsewhere it is the thread's.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from workbench_kernels.dispatch import KernelSet

MATRICES, HEAD, ATTENTION, SMALL, REST = (
    "layer matrices",
    "output head",
    "attention",
    "norms, rotary, activation",
    "rest",
)
_PRODUCTS = (torch.mm, torch.addmm, F.linear, torch.ops.mkldnn._linear_pointwise)


class PartTimer(TorchFunctionMode):
    """Collects seconds by part: matrix products in its scope, and the operations of the set that `kernels` gives."""

    def __init__(self, device: torch.device, vocab_size: int) -> None:
        super().__init__()
        self._device = device
        self._vocab_size = vocab_size
        self._inside = False
        self._spans: list[tuple[str, Any, Any]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in _PRODUCTS or self._inside:
            return func(*args, **(kwargs or {}))
        with self.part(MATRICES):
            out = func(*args, **(kwargs or {}))
        self._name_head(out)
        return out

    def kernels(self, kernels: KernelSet) -> KernelSet:
        """The same operations with a clock around each."""
        timed = {
            "paged_attention": ATTENTION,
            "quant_matmul": MATRICES,
            "rope_and_write_kv": SMALL,
            "write_kv": SMALL,
            "rms_norm": SMALL,
            "add_rms_norm": SMALL,
            "silu_and_mul": SMALL,
            "gelu_tanh_and_mul": SMALL,
        }
        return replace(kernels, **{name: self._timed(part, getattr(kernels, name)) for name, part in timed.items()})

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with self.part(part):
                return function(*arguments)

        return call

    def _name_head(self, out: torch.Tensor) -> None:
        if out.shape[-1] == self._vocab_size:
            _, begin, end = self._spans.pop()
            self._spans.append((HEAD, begin, end))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens in the block; what is timed inside of it is not counted twice."""
        self._inside = True
        begin = self._now()
        try:
            yield
        finally:
            self._inside = False
            self._spans.append((name, begin, self._now()))

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def whole(self, forward: Callable[[], object]) -> dict[str, float]:
        """Seconds of a forward by part; "rest" is what is in none of them, so that they add up."""
        self._spans.clear()
        begin = self._now()
        with self:
            forward()
        end = self._now()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        found = dict.fromkeys((MATRICES, HEAD, ATTENTION, SMALL), 0.0)
        for name, *span in self._spans:
            found[name] += _seconds(*span)
        return {**found, REST: max(0.0, _seconds(begin, end) - sum(found.values()))}


def _seconds(begin: Any, end: Any) -> float:
    return float(end - begin) if isinstance(begin, float) else float(begin.elapsed_time(end)) / 1e3
