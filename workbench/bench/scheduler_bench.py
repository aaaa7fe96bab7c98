"""Microseconds of one scheduling step, without a model."""

import statistics
import time
from typing import NamedTuple

from workbench.core.config import SchedulerConfig
from workbench.core.policy import Policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SampledToken


class SchedulerSpeed(NamedTuple):
    """Median microseconds per step, schedule() and update() together, and per running request."""

    num_running: int
    step_microseconds: float
    request_microseconds: float


def scheduler_speed(num_running: int, steps: int = 200) -> SchedulerSpeed:
    """Decode steps of num_running requests, records taken as the engine does."""
    config = SchedulerConfig(
        num_blocks=num_running * 64,
        block_size=16,
        max_num_seqs=num_running,
        max_num_batched_tokens=max(8192, num_running),
        max_model_len=4096,
        vocab_size=1000,
    )
    scheduler = Scheduler(config, Policy())
    for index in range(num_running):
        prompt = [(index + i) % 1000 for i in range(64)]
        params = SamplingParams(max_tokens=steps + 300)
        scheduler.add_request(f"r{index}", prompt, params, arrival_time=0.0)
    token, times = SampledToken(7), []
    while len(times) < steps:
        began = time.perf_counter()
        plan = scheduler.schedule()
        scheduled = time.perf_counter()
        sampled = {item.request_id: token for item in plan.scheduled if item.sample}
        ready = time.perf_counter()
        scheduler.update(plan, sampled, {}, {})
        scheduler.take_events()
        if len(sampled) == num_running and plan.num_scheduled_tokens == num_running:
            times.append(time.perf_counter() - ready + scheduled - began)
    step = statistics.median(times) * 1e6
    return SchedulerSpeed(num_running, step, step / num_running)
