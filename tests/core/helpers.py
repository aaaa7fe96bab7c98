"""Scheduler driving for tests, without an engine."""

from typing import Any

from workbench.core.config import SchedulerConfig
from workbench.core.policy import make_policy
from workbench.core.records import StepRecord, StepTimes
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SampledToken, SchedulerOutput

NO_TIMES = StepTimes(0.0, 0.0, 0.0, 0.0, 0.0)


def make_scheduler(policy: str = "fcfs", **changes: Any) -> Scheduler:
    """A scheduler with small numbers."""
    settings: dict[str, Any] = {
        "num_blocks": 16,
        "block_size": 4,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 32,
        "max_model_len": 64,
        "vocab_size": 100,
        **changes,
    }
    return Scheduler(SchedulerConfig(**settings), make_policy(policy))


def run_step(scheduler: Scheduler, token: int = 7) -> SchedulerOutput:
    """Schedule, and pretend that every request that samples got `token`."""
    plan = scheduler.schedule()
    finish_step(scheduler, plan, token)
    return plan


def finish_step(scheduler: Scheduler, plan: SchedulerOutput, token: int = 7) -> None:
    """The second half of a step."""
    scheduler.update(plan, {item.request_id: SampledToken(token) for item in plan.scheduled if item.sample}, {}, {})
    scheduler.check_invariants()


def record_of(scheduler: Scheduler, plan: SchedulerOutput) -> StepRecord:
    """The step's record, without times."""
    return scheduler.record(plan, 0.0, NO_TIMES)
