"""How many threads torch uses for a step, and which GPU is the calling thread's own."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from workbench.core.config import ModelSpec

# Below this, other threads are not worth their cost: they meet at a barrier after every operation, and one that the
# system has put aside for another process holds up all (measured: a 2 ms step became 60 ms next to a busy neighbour).
ONE_THREAD_SECONDS = 0.025
# What one thread does at least, for the estimate: weights read and multiply-adds, each per second.
_BYTES_PER_SECOND = 15e9
_MULTIPLY_ADDS_PER_SECOND = 40e9


def step_threads(spec: ModelSpec, num_tokens: int, available: int) -> int:
    """Threads for a step of num_tokens on a CPU: 1 if it is short enough anyway, else all that torch may use."""
    seconds = max(spec.weight_bytes / _BYTES_PER_SECOND, spec.num_parameters * num_tokens / _MULTIPLY_ADDS_PER_SECOND)
    return 1 if seconds < ONE_THREAD_SECONDS else available


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for operations called from this thread, and restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread: Triton launches kernels there, wherever their tensors are."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
