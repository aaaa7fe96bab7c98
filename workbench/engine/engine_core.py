"""One step: schedule, run, update, record. No threads here; engine_loop.py drives it."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from workbench.core.config import SchedulerConfig
from workbench.core.errors import ConfigError
from workbench.core.policy import POLICIES, Policy, make_policy
from workbench.core.records import Finished, SettingChange, StepRecord, StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import RunnerOutput, SampledToken, SchedulerOutput
from workbench.engine.hooks import Hooks
from workbench.engine.interfaces import ModelRunner
from workbench.engine.request_stream import RequestStream
from workbench.trace import Trace

Clock = Callable[[], float]

logger = logging.getLogger("workbench")

LIVE_SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching", "scheduling_policy")


class EngineCore:
    """The scheduler, the runner and the trace, put together. Only one thread may use it.

    info and token_text go into the trace. clock: seconds since some fixed moment, never going back; it is read here
    and nowhere below.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: SchedulerConfig,
        policy: Policy,
        trace_steps: int,
        *,
        info: Mapping[str, Any] | None = None,
        token_text: Callable[[int], str] | None = None,
        trace_memory_bytes: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.runner = runner
        self.scheduler = Scheduler(config, policy)
        self.trace = Trace(self.scheduler.snapshot(), trace_steps, info, token_text, trace_memory_bytes)
        self.hooks = Hooks()
        self.own_policies: dict[str, Policy] = {}  # what readers wrote and had in force, to go back to by name
        self._remember(policy)
        self._clock = clock
        self._start = clock()
        self._changes: list[SettingChange] = []
        self._sequences: dict[str, tuple[RequestStream, int]] = {}

    def now(self) -> float:
        """Seconds on the engine's clock, which starts at 0."""
        return self._clock() - self._start

    def has_work(self) -> bool:
        """True while a request is waiting or running."""
        return self.scheduler.has_unfinished()

    def has_news(self) -> bool:
        """True if something changed that no record holds yet."""
        return self.scheduler.has_events() or bool(self._changes)

    def add_request(self, stream: RequestStream, priority: int, label: str) -> None:
        """Queue a request; its tokens go to the stream. Raises as Scheduler.add_request does."""
        requests = self.scheduler.add_request(
            stream.request_id,
            stream.prompt_token_ids,
            stream.params,
            arrival_time=stream.arrival_time,
            priority=priority,
            label=label,
        )
        for index, request in enumerate(requests):
            self._sequences[request.request_id] = (stream, index)

    def abort(self, parent_id: str) -> None:
        """End all sequences of a request."""
        self._deliver_ends(self.scheduler.abort(self._sequences_of(parent_id)), "abort", None)

    def abort_all(self) -> None:
        """End every request."""
        self._deliver_ends(self.scheduler.abort(list(self.scheduler.requests)), "abort", None)

    def configure(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Turn knobs between two steps; all or, when one is refused, none. Returns the values now in force."""
        unknown = sorted(set(changes) - set(LIVE_SETTINGS))
        if unknown:
            raise ConfigError(f"{unknown} cannot be changed on a running engine; {', '.join(LIVE_SETTINGS)} can")
        limits = {name: value for name, value in changes.items() if name != "scheduling_policy"}
        config = self.scheduler.config.with_changes(**limits)
        if "scheduling_policy" in changes:
            wanted = changes["scheduling_policy"]
            policy = make_policy(self.own_policies.get(wanted, wanted) if isinstance(wanted, str) else wanted)
            self.scheduler.set_policy(policy)
            self._remember(policy)
            changes = {**changes, "scheduling_policy": policy.name}
        self.scheduler.configure(config)
        self._changes += [SettingChange(name, str(value)) for name, value in changes.items()]
        return changes

    def _remember(self, policy: Policy) -> None:
        if policy.name not in POLICIES:
            self.own_policies[policy.name] = policy

    def set_priority(self, request_id: str, priority: int) -> bool:
        """Change a request's priority (of all its sequences when n > 1); False if it is not alive."""
        names = self._sequences_of(request_id)
        for name in names:
            self.scheduler.set_priority(name, priority)
            self._changes.append(SettingChange("priority", str(priority), name))
        return bool(names)

    def move_to_front(self, request_id: str) -> bool:
        """Put a waiting request ahead of all others of its priority; False if it does not wait."""
        moved = [name for name in reversed(self._sequences_of(request_id)) if self.scheduler.move_to_front(name)]
        self._changes += [SettingChange("move_to_front", "", name) for name in moved]
        return bool(moved)

    def step(self) -> StepRecord:
        """Do one step and return its record. A runner that raises fails the requests in its plan, nobody else."""
        began = self._clock()
        plan = self.scheduler.schedule()
        scheduled = self._clock()
        self._note_first_scheduled(plan, began - self._start)
        try:
            result = self.runner.execute(plan)
        except Exception as error:
            message = f"the step could not be run: {type(error).__name__}: {error}"
            self.scheduler.fail(plan, message)
            result = RunnerOutput({}, {}, 0.0, self._clock() - scheduled, 0.0)
        else:
            self.scheduler.update(plan, result.sampled, self._deliver_tokens(plan, result.sampled), result.errors)
        ran = scheduled + result.prepare_seconds + result.forward_seconds + result.sample_seconds
        return self._record(plan, began, scheduled - began, result, ran)

    def note(self) -> StepRecord:
        """Record what changed while nothing runs, so that views and trace show it at once."""
        began = self._clock()
        plan = self.scheduler.hold()
        self.runner.execute(plan)
        return self._record(plan, began, self._clock() - began, RunnerOutput({}, {}, 0.0, 0.0, 0.0), self._clock())

    def close(self) -> None:
        """Wake everybody who waits for a result, and free what the runner holds."""
        for stream, _ in self._sequences.values():
            stream.close()
        self._sequences.clear()
        self.runner.close()

    def _sequences_of(self, parent_id: str) -> list[str]:
        return [name for name, (stream, _) in self._sequences.items() if stream.request_id == parent_id]

    def _record(
        self, plan: SchedulerOutput, began: float, schedule_seconds: float, result: RunnerOutput, ran: float
    ) -> StepRecord:
        if (failure := self.scheduler.guard.failure) is not None:
            self.scheduler.guard.failure = None
            self._changes.append(SettingChange("scheduling_policy", failure))
            logger.warning(failure)
        changes, self._changes = tuple(self._changes), []
        times = StepTimes(
            schedule_seconds,
            result.prepare_seconds,
            result.forward_seconds,
            result.sample_seconds,
            max(0.0, self._clock() - ran),
        )
        record = self.scheduler.record(plan, began - self._start, times, changes)
        self.trace.append(record, self.scheduler.snapshot)
        self._deliver_finished(record.finished)  # after the append: whoever waits for a result finds it in the trace
        self.hooks.emit_step(record)
        return record

    def _note_first_scheduled(self, plan: SchedulerOutput, now: float) -> None:
        cached = {d.request_id: d.num_cached for d in plan.decisions if d.num_cached} if plan.new_requests else {}
        for new in plan.new_requests:
            stream, _ = self._sequences[new.request_id]
            if stream.first_scheduled_time is None:
                stream.first_scheduled_time = now
                stream.num_cached_tokens = cached.get(new.request_id, 0)
        for name in plan.dropped:
            request = self.scheduler.requests.get(name)
            if request is not None:  # dropped and alive: preempted
                self._sequences[name][0].num_preemptions += 1

    def _deliver_tokens(self, plan: SchedulerOutput, sampled: dict[str, SampledToken]) -> dict[str, str]:
        """Hand tokens to their streams; returns the stop strings that were reached."""
        now, stops = self.now(), {}
        for name, token in sampled.items():
            stream, index = self._sequences[name]
            may_stop = True
            if stream.params.min_tokens:
                may_stop = self.scheduler.requests[name].num_output_tokens + 1 >= stream.params.min_tokens
            stop = stream.add_token(index, token, now, may_stop)
            if stop is not None:
                stops[name] = stop
        return stops

    def _deliver_finished(self, finished: tuple[Finished, ...]) -> None:
        now = self.now()
        for ended in finished:
            found = self._sequences.pop(ended.request_id, None)
            if found is not None:
                stream, index = found
                stream.finish(index, ended.finish_reason, _stop_reason(ended, stream.params), now)

    def _deliver_ends(self, names: list[str], reason: str, detail: str | None) -> None:
        now = self.now()
        for name in names:
            stream, index = self._sequences.pop(name)
            stream.finish(index, reason, detail, now)


def _stop_reason(ended: Finished, params: SamplingParams) -> int | str | None:
    """vLLM gives a stop token as a number and a stop string as a string."""
    if ended.finish_reason == "stop" and ended.detail and ended.detail not in params.stop:
        return int(ended.detail)
    return ended.detail or None
