"""Our scheduler in steps that decode, without a model, and nano-vllm's beside it."""

import statistics
import time
from typing import Any, Protocol

from tqdm import tqdm

from workbench.bench.nano_vllm import NanoDecoding, NanoVLLM
from workbench.core.config import SchedulerConfig
from workbench.core.frozen import FrozenState
from workbench.core.policy import Policy
from workbench.core.records import StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace

TOKEN = SampledToken(7)
NO_TIMES = StepTimes(0.0, 0.0, 0.0, 0.0, 0.0)
VOCABULARY = 1000

NUM_RUNNING = (1, 16, 64, 256, 1024)
BLOCK_SIZE = 16
NANO_BLOCK_SIZE = 256  # nano-vllm's own
SLICE = 16  # steps in a row, before it is the other one's turn
SLICES = 5  # of each, in a round


class Decoding(Protocol):
    """A scheduler whose requests all decode."""

    def run(self, steps: int) -> float:
        """Do so many steps and say how many seconds of this thread's CPU time they took."""
        ...


def decoding_prompts(count: int, block_size: int) -> list[list[int]]:
    """Prompts that differ, of lengths spread over a block, so that every step has its share of requests that need a
    new one."""
    return [[(index + i) % VOCABULARY for i in range(64 + index % block_size)] for index in range(count)]


class OurDecoding:
    """Scheduler and trace as the engine has them: a reason for each request in each step, and every record kept."""

    def __init__(self, prompts: list[list[int]], max_tokens: int, block_size: int, num_blocks: int = 0) -> None:
        config = SchedulerConfig(
            num_blocks=num_blocks or sum(-(-(len(prompt) + max_tokens) // block_size) for prompt in prompts),
            block_size=block_size,
            max_num_seqs=len(prompts),
            max_num_batched_tokens=sum(map(len, prompts)),
            max_model_len=max(map(len, prompts)) + max_tokens + 1,
            vocab_size=VOCABULARY,
        )
        self._scheduler = Scheduler(config, Policy())
        self.trace = Trace(self._scheduler.snapshot(), 100_000)
        for index, prompt in enumerate(prompts):
            params = SamplingParams(max_tokens=max_tokens)
            self._scheduler.add_request(f"r{index}", prompt, params, arrival_time=0.0)
        self._tokens = dict.fromkeys(self._scheduler.requests, TOKEN)
        self.run(1)

    def freeze(self) -> FrozenState:
        """The state, as a keyframe of the trace holds it."""
        return self._scheduler.freeze()

    def run(self, steps: int) -> float:
        """CPU seconds of so many steps: schedule(), update() and the record. The tokens were made up before."""
        scheduler = self._scheduler
        began = time.thread_time()
        for _ in range(steps):
            plan = scheduler.schedule()
            scheduler.update(plan, self._tokens, {}, {})
            self.trace.append(scheduler.record(plan, 0.0, NO_TIMES))
        return time.thread_time() - began


def scheduler_rows(rounds: int, nano: NanoVLLM | None) -> list[dict[str, Any]]:
    """A row for each number of running requests; with nano-vllm, for our block size and for its own."""
    sizes = (BLOCK_SIZE,) if nano is None else (BLOCK_SIZE, NANO_BLOCK_SIZE)
    cases = [(size, count) for size in sizes for count in NUM_RUNNING]
    return [
        _row(count, size, rounds * SLICES, nano)
        for size, count in tqdm(cases, desc="scheduler", delay=1.0, leave=False)
    ]


def _row(count: int, block_size: int, slices: int, nano: NanoVLLM | None) -> dict[str, Any]:
    prompts = decoding_prompts(count, block_size)
    max_tokens = (slices + 1) * SLICE + 2
    peers: list[Decoding] = [OurDecoding(prompts, max_tokens, block_size)]
    if nano is not None:
        peers.append(NanoDecoding(nano, prompts, max_tokens, block_size))
    spent: list[list[float]] = [[peer.run(SLICE) for peer in peers] for _ in range(slices + 1)][1:]
    steps = [statistics.median(seconds) / SLICE * 1e6 for seconds in zip(*spent, strict=True)]
    row = {
        "running": count,
        "block size": block_size,
        "µs per step": round(steps[0], 1),
        "µs per request": round(steps[0] / count, 2),
    }
    if nano is not None:
        ratio = statistics.median(theirs / ours for ours, theirs in spent)
        row |= {"nano-vllm's µs per step": round(steps[1], 1), "its time / ours": round(ratio, 2)}
    return row
