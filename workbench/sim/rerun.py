"""A recorded run once more through the scheduler, step by step: the same decisions, or the recording is not whole."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from workbench.core.config import POOL_SETTINGS, RECOMPUTE_SETTINGS, SchedulerConfig
from workbench.core.errors import ConfigError
from workbench.core.policy import POLICIES, Policy, make_policy
from workbench.core.records import SettingChange, StepRecord, setting_text
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import NOBODY_RUNS, SampledToken, SchedulerOutput
from workbench.sim.memory_account import MemoryAccount


class Rerun:
    """Each step begins when it began, takes what it took, and gets the arrivals, changed settings, cancellations and
    tokens that it had. Everything else is decided anew.

    Not told by records, and so not repeated: a reset of the prefix cache by hand, and policies that are not known by
    name. Raises ConfigError if the recording does not begin at an empty engine.
    """

    def __init__(self, records: Sequence[StepRecord], config: SchedulerConfig, policy: Policy) -> None:
        if records and records[0].step != 0:
            raise ConfigError(
                f"the trace has dropped the {records[0].step} steps before its oldest one, so the run cannot be "
                "repeated; a larger trace_steps keeps more"
            )
        self.scheduler = Scheduler(config, policy)
        self.memory = MemoryAccount()
        self._records = records
        self._output_lens: dict[str, int] = {}
        for record in records:
            for sampled in record.sampled:
                self._output_lens[sampled.request_id] = self._output_lens.get(sampled.request_id, 0) + 1

    def run(self) -> Iterator[StepRecord]:
        """Repeat the recording."""
        for record in self._records:
            self._before_step(record)
            held = all(decision.reason in NOBODY_RUNS for decision in record.decisions)
            plan = self.scheduler.hold() if held else self.scheduler.schedule()
            self.memory.add(self.scheduler, plan, self._output_lens, record.time, record.duration)
            self._update(plan, record)
            yield self.scheduler.record(plan, record.time, record.times, record.changes)

    def _before_step(self, record: StepRecord) -> None:
        for parent_id, group in groupby(record.arrivals, key=lambda arrival: arrival.parent_id):
            arrivals = list(group)
            first = arrivals[0]
            self.scheduler.add_request(
                parent_id,
                first.prompt_token_ids,
                SamplingParams(n=len(arrivals), max_tokens=first.max_tokens, ignore_eos=True),
                arrival_time=first.time,
                priority=first.priority,
                label=first.label,
            )
            for arrival in arrivals:
                self._output_lens.setdefault(arrival.request_id, 0)
        self.scheduler.abort(f.request_id for f in record.finished if f.finish_reason == "abort")
        for change in record.changes:
            if change.name not in POOL_SETTINGS:
                self._change(change)
        turned = [change for change in record.changes if change.name in POOL_SETTINGS]
        recompute = any(change.name in RECOMPUTE_SETTINGS for change in turned)
        if recompute or (turned and record.pool != self.scheduler.config.pool):
            config = self.scheduler.config.with_pool(record.pool)
            self.scheduler.change_pool(config, setting_text(turned), recompute)

    def _change(self, change: SettingChange) -> None:
        scheduler = self.scheduler
        if change.name == "scheduling_policy":
            if change.value not in POLICIES:
                raise ConfigError(
                    f"the run used a policy that has no known name, so it cannot be repeated: {change.value}"
                )
            scheduler.set_policy(make_policy(change.value))
        elif change.name == "priority":
            scheduler.set_priority(change.request_id, int(change.value))
        elif change.name == "move_to_front":
            scheduler.move_to_front(change.request_id)
        else:
            value = change.value == "True" if change.name == "enable_prefix_caching" else int(change.value)
            scheduler.configure(scheduler.config.with_changes(**{change.name: value}))

    def _update(self, plan: SchedulerOutput, record: StepRecord) -> None:
        sampled = {s.request_id: SampledToken(s.token_id, s.logprob, s.alternatives) for s in record.sampled}
        stops = {f.request_id: f.detail for f in record.finished if f.finish_reason == "stop"}
        errors = {f.request_id: f.detail for f in record.finished if f.finish_reason == "error"}
        if {item.request_id for item in plan.scheduled if item.sample} - errors.keys() != sampled.keys():
            raise ConfigError(
                f"step {plan.step} cannot be repeated: other requests would sample than in the recording, which "
                "happens if it used another scheduler, policy or settings than its trace says"
            )
        self.scheduler.update(plan, sampled, stops, errors)
