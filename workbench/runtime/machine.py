"""How fast this machine copies memory and multiplies matrices: what every other figure is measured against."""

import time
from collections.abc import Callable
from functools import partial

import torch
from tqdm.auto import tqdm

from workbench.core.machine import MachineLimits

# Larger than any cache; a matrix that keeps every core busy for some milliseconds.
COPY_BYTES = {"cpu": 2**27, "cuda": 2**30}
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
ROUNDS = 9


def measure_limits(
    device: torch.device,
    dtype: torch.dtype,
    rounds: int = ROUNDS,
    progress: Callable[[int, int], None] | None = None,
) -> MachineLimits:
    """Copy bandwidth and matmul peak, each the best of some rounds; about two seconds, with a progress bar.

    progress: called with rounds done, of how many, in place of the bar; what it raises ends the measurement.

    The best and not the median: it is a limit that is asked for, and other work on the machine only slows it down.
    A CPU's peak is that of float32 where it multiplies dtype more slowly, as one without bfloat16 instructions does.
    """
    kind = "cuda" if device.type == "cuda" else "cpu"
    source = torch.ones(COPY_BYTES[kind], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    n = MATMUL_SIZE[kind]
    tasks: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    for kind_of_number in dict.fromkeys([dtype] if kind == "cuda" else [dtype, torch.float32]):
        square = torch.randn(n, n, device=device).to(kind_of_number)
        tasks[str(kind_of_number).removeprefix("torch.")] = partial(torch.mm, square, square)
    best = dict.fromkeys(tasks, float("inf"))
    total = len(tasks) * rounds
    quiet = progress is not None
    with tqdm(total=total, desc="Measuring this machine", unit="round", delay=1.0, leave=False, disable=quiet) as bar:
        for number, (name, task) in enumerate(tasks.items()):
            seconds_of(task, device)  # the first one pays for pages and compilers
            for done in range(rounds):
                best[name] = min(best[name], seconds_of(task, device))
                bar.update(1)
                if progress is not None:
                    progress(number * rounds + done + 1, total)
    copied = best.pop("copy")
    fastest = min(best, key=lambda name: best[name])
    return MachineLimits(
        torch.cuda.get_device_name(device) if kind == "cuda" else "cpu",
        fastest,
        torch.get_num_threads(),
        2 * source.nbytes / copied,
        2 * n**3 / best[fastest],
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
