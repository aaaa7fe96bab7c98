"""How fast this machine copies memory and multiplies matrices: what every other figure is measured against."""

import time
from collections.abc import Callable

import torch
from tqdm.auto import tqdm

from workbench.core.machine import MachineLimits

# Larger than any cache; a matrix that keeps every core busy for some milliseconds.
COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
ROUNDS = 9


def measure_limits(device: torch.device, dtype: torch.dtype, rounds: int = ROUNDS) -> MachineLimits:
    """Copy bandwidth and matmul peak, each the best of some rounds; about a second, with a progress bar.

    The best and not the median: it is a limit that is asked for, and other work on the machine only slows it down.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    source = torch.ones(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    n = MATMUL_SIZE[kind]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    tasks: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source), "multiply": lambda: a @ b}
    best = dict.fromkeys(tasks, float("inf"))
    with tqdm(total=len(tasks) * rounds, desc="Measuring this machine", unit="round", delay=1.0, leave=False) as bar:
        for name, task in tasks.items():
            seconds_of(task, device)  # the first one pays for pages and compilers
            for _ in range(rounds):
                best[name] = min(best[name], seconds_of(task, device))
                bar.update(1)
    return MachineLimits(
        torch.cuda.get_device_name(device) if kind == "cuda" else "cpu",
        str(dtype).removeprefix("torch."),
        torch.get_num_threads(),
        2 * source.nbytes / best["copy"],
        2 * n**3 / best["multiply"],
    )


def seconds_of(task: Callable[[], object], device: torch.device) -> float:
    """One call, and the device's work for it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
