"""What bounds a decode step with quantized weights: its parts, the machine's limits and the kernels out of the cache.

Everything is measured in the same run, with as many threads as the step itself uses.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from workbench.core.sampling_params import SamplingParams
from workbench.core.work import HEAD, MATRICES, step_work, work_sizes
from workbench.llm import LLM
from workbench.runtime.threads import step_threads, torch_threads
from workbench_kernels.quant_matmul import cpu
from workbench_kernels.quant_matmul.packing import QuantizedWeight, quantize

STEPS = 12
ROUNDS = 7
READ_NUMBERS = 2**26  # float32: 256 MiB, larger than any cache
MATMUL_SIZE = 768
# A matrix that stays in the second-level cache in float32 too; it has a multiple of all group sizes as inputs.
CACHED_SHAPE = (192, 768)
CACHED_CALLS = 20
HALF = 0.5


class Machine(NamedTuple):
    """read_bandwidth: bytes a second out of memory, only read. matmul_peak: float32 operations a second."""

    read_bandwidth: float
    matmul_peak: float


class StepFigures(NamedTuple):
    """A decode step, in seconds: the whole, the layers' products, the output head. What the products read and compute.

    cached: what the products would take if their weights came out of a cache; widening: what turning the packed weights
    into float32 takes, once each, out of a cache. None where they were not measured (on a GPU).
    """

    weights: str
    batch: int
    step: float
    products: float
    head: float
    product_bytes: float
    product_flops: float
    cached: float | None
    widening: float | None
    machine: Machine

    @property
    def reading(self) -> float:
        """Seconds that reading the products' weights takes at least."""
        return self.product_bytes / self.machine.read_bandwidth

    @property
    def computing(self) -> float:
        """Seconds that multiplying takes at least, out of the cache where that was measured."""
        return self.cached if self.cached is not None else self.product_flops / self.machine.matmul_peak

    @property
    def bound(self) -> str:
        """Where most of the time goes: "unquantized parts", "memory", "widening" or "arithmetic".

        "neither": reading and computing explain less than half of it.
        """
        if self.products < HALF * self.step:
            return "unquantized parts"
        if max(self.reading, self.computing) < HALF * self.products:
            return "neither"
        if self.reading >= self.computing:
            return "memory"
        return "widening" if (self.widening or 0.0) >= HALF * self.computing else "arithmetic"

    def sentence(self) -> str:
        """The bound, and the figures that say so."""
        rest = max(0.0, self.step - self.products - self.head)
        split = (
            f"{self.weights}, batch {self.batch}: of {self.step * 1e3:.1f} ms a step the layers' products take "
            f"{self.products / self.step:.0%}, the output head, in full precision, {self.head / self.step:.0%}, all "
            f"else {rest / self.step:.0%}."
        )
        machine = self.machine
        reached = (
            f"The products read {self.product_bytes / 2**20:.0f} MiB at {self.product_bytes / self.products / 1e9:.1f} "
            f"of {machine.read_bandwidth / 1e9:.1f} GB/s and compute at {self.product_flops / self.products / 1e9:.0f} "
            f"of {machine.matmul_peak / 1e9:.0f} GFLOP/s."
        )
        cached = ""
        if self.cached is not None:
            cached = (
                f"In {self.products * 1e3:.1f} ms they do what takes {self.reading * 1e3:.1f} ms to read and, with the "
                f"weights in the cache, {self.cached * 1e3:.1f} ms to compute"
            )
            if self.widening is not None:
                cached += f"; widening the packed weights once takes {self.widening * 1e3:.1f} ms"
            cached += "."
        verdict = {
            "unquantized parts": "Bound by what is not quantized: fewer bits would change little.",
            "neither": "Most of the products' time is neither: calls, threads that wait for each other, other work on "
            "the machine.",
            "memory": "The products are bound by memory: fewer bits make them faster.",
            "widening": "The products are bound by widening the packed weights, not by reading them.",
            "arithmetic": "The products are bound by multiplying, not by reading: fewer bits do not make them faster.",
        }[self.bound]
        return " ".join(part for part in (split, reached, cached, verdict) if part)


def step_figures(llm: LLM, weights: str, batch: int, machines: dict[int, Machine]) -> StepFigures:
    """Measure a decode step of `batch` requests. machines: by threads, filled with what is not measured yet."""
    vocab = llm.model.vocab_size
    asked = [{"prompt_token_ids": [5 + (7 * i + k) % (vocab - 5) for k in range(8)]} for i in range(batch)]
    first = llm.trace.last_step
    params = SamplingParams(temperature=0.0, max_tokens=STEPS, ignore_eos=True)
    llm.generate(asked, params, use_tqdm=False)
    steps = [record for record in llm.trace.records(since=first) if record.num_scheduled_tokens == batch]
    steps.sort(key=lambda record: record.duration)
    record = steps[len(steps) // 2]
    roofline = llm.roofline(record.step)
    parts = {part.name: part.seconds for part in roofline.parts if part.name != "forward"}
    # The step by its own parts, timed together: a machine that grew slower since the recorded step makes no difference.
    step = sum(parts.values()) / (1 - roofline.overhead)
    rows = llm.weights()
    work = step_work(record, work_sizes(llm.model, rows))[MATRICES]
    threads = 0 if llm.model.device != "cpu" else step_threads(llm.model, batch, torch.get_num_threads())
    if threads == 0:
        limits = roofline.limits
        machine = Machine(limits.copy_bandwidth, limits.matmul_peak)
        cached = widening = None
    else:
        with torch_threads(threads):
            if threads not in machines:
                machines[threads] = measure_machine()
            machine = machines[threads]
        numbers = sum(row.shape[0] * row.shape[1] for row in rows if row.quantizable)
        cached, widening = _cached(weights, llm.model.dtype, batch, numbers / threads)
    return StepFigures(
        weights, batch, step, parts[MATRICES], parts[HEAD], work.bytes, work.flops, cached, widening, machine
    )


def measure_machine() -> Machine:
    """The best of some rounds, with as many threads as torch may use now: other work on the machine only slows down."""
    numbers = torch.ones(READ_NUMBERS)
    square = torch.randn(MATMUL_SIZE, MATMUL_SIZE)
    read = _best(lambda: torch.sum(numbers))
    multiply = _best(lambda: torch.mm(square, square))
    return Machine(numbers.nbytes / read, 2 * MATMUL_SIZE**3 / multiply)


def _cached(weights: str, dtype: str, batch: int, numbers: float) -> tuple[float | None, float | None]:
    """Seconds of products with so many weights, and of widening them, as one thread does it with a matrix in cache."""
    outputs, inputs = CACHED_SHAPE
    matrix, scale = torch.randn(CACHED_SHAPE), numbers / (outputs * inputs)
    kind = getattr(torch, dtype)
    x = torch.randn(batch, inputs, dtype=kind)
    with torch_threads(1):
        if weights == dtype:
            if kind is not torch.float32:
                return None, None  # stored in a form of its own
            stored = matrix.t().contiguous()
            return scale * _best(lambda: torch.mm(x, stored), CACHED_CALLS), None
        packed: QuantizedWeight = quantize(matrix.to(kind), weights)
        wide = torch.empty(CACHED_SHAPE)
        return (
            scale * _best(lambda: cpu.quant_matmul(x, packed), CACHED_CALLS),
            scale * _best(lambda: cpu.widen(packed, wide), CACHED_CALLS),
        )


def _best(task: Callable[[], object], calls: int = 1) -> float:
    """Seconds of a call, the best of some rounds; the first round pays for pages and compilers."""
    found = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        for _ in range(calls):
            task()
        found.append((time.perf_counter() - began) / calls)
    return min(found[1:])
