"""An engine that is the same at every run, time included, for pictures of JupyterLab's layouts.

Scheduler, loop, comm and views are the real ones; the runner has no model, draws its tokens from a seed and says how
long it took, and the engine's clock is the sum of that. It is imported in a kernel.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "extension" / "dev"))

from make_trace import LIMITS, MODEL, VOCABULARY, WEIGHTS, token

from workbench.core.config import EngineArgs, SchedulerConfig
from workbench.core.machine import MachineLimits
from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import RunnerOutput, SchedulerOutput
from workbench.core.settings import resolved_settings
from workbench.core.work import WorkSizes, work_sizes
from workbench.engine.client import EngineClient
from workbench.engine.engine_core import EngineCore
from workbench.engine.engine_loop import EngineLoop
from workbench.engine.info import engine_info
from workbench.sim import FakeRunner
from workbench.widgets.lab_pages import announce

BLOCK_BYTES = 24_576


class SteadyRunner(FakeRunner):
    """Tokens and durations from a seed; memory and machine as of a small model on a laptop."""

    def __init__(self, config: SchedulerConfig, seed: int) -> None:
        super().__init__(config)
        self.spec = MODEL
        self.seconds = 0.0
        self._draw = random.Random(seed)

    def execute(self, plan: SchedulerOutput) -> RunnerOutput:
        sampled = {name: token(self._draw) for name in sorted(super().execute(plan).sampled)}
        prepare, sample = self._draw.uniform(1e-4, 2e-4), self._draw.uniform(2e-4, 5e-4)
        forward = 1.2e-3 + 3.5e-5 * plan.num_scheduled_tokens + self._draw.uniform(0, 4e-4)
        self.seconds += prepare + forward + sample
        return RunnerOutput(sampled, {}, prepare, forward, sample)

    def device(self) -> DeviceReading:
        return DeviceReading("laptop", "none", problem="nothing is measured for a picture")

    def memory(self, reading: DeviceReading | None = None) -> list[MemoryRow]:
        return [
            MemoryRow("Weights", "weights", MODEL.weight_bytes),
            MemoryRow("KV cache", "kv", self._config.pool.num_bytes),
            MemoryRow("Python, torch and the rest", "other", 412_000_000),
        ]

    def work(self) -> WorkSizes:
        return work_sizes(MODEL, WEIGHTS)

    def measure_limits(self, progress: object = None) -> MachineLimits:
        return LIMITS


class Words:
    """The tokenizer's part that views need."""

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(VOCABULARY[i] for i in token_ids)

    def token_text(self, token_id: int) -> str:
        return VOCABULARY[token_id]


class SteadyEngine:
    """An engine listed in JupyterLab's sidebar. `run` has it make steps; between those it is paused."""

    def __init__(self, name: str, num_blocks: int, max_num_seqs: int, seed: int) -> None:
        config = SchedulerConfig(
            num_blocks=num_blocks,
            block_size=16,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=96,
            max_model_len=1024,
            vocab_size=len(VOCABULARY),
            kv_cache_dtype="bfloat16",
            kv_bytes_per_block=BLOCK_BYTES,
        )
        runner, tokenizer = SteadyRunner(config, seed), Words()
        settings = resolved_settings(EngineArgs(), runner.spec, config, "fcfs")
        starters = [{"title": "Once upon a time", "text": "Once upon a time"}]
        info = engine_info(name, replace(MODEL, name="tiny stories"), config, settings, starters)
        core = EngineCore(
            runner,
            config,
            make_policy("fcfs"),
            10_000,
            info=info,
            token_text=tokenizer.token_text,
            clock=lambda: runner.seconds,
        )
        self._draw = random.Random(seed)
        self.loop = EngineLoop(core)
        self.client = EngineClient(self.loop, tokenizer)  # type: ignore[arg-type]
        announce(self.client)

    def run(self, num_requests: int, num_steps: int) -> None:
        """Add requests of one shared prefix and others, then make steps."""
        self.loop.pause()
        shared = [self._draw.randrange(5, len(VOCABULARY)) for _ in range(40)]
        for index in range(num_requests):
            own = [self._draw.randrange(5, len(VOCABULARY)) for _ in range(self._draw.randint(6, 60))]
            params = SamplingParams(max_tokens=self._draw.randint(24, 90), ignore_eos=True, logprobs=4)
            self.client.submit([{"prompt_token_ids": shared + own if index % 2 else own}], [params], [0])
        self.loop.call(lambda: None)
        self.loop.step(num_steps).result(60)

    def finish(self) -> None:
        """Let all work end."""
        self.loop.resume()
        while self.loop.status().state == "running":
            self.loop.call(lambda: None)
