"""One step: schedule, run, update, record. No threads here; engine_loop.py drives it."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from workbench.core.config import POOL_SETTINGS, RECOMPUTE_SETTINGS, EngineArgs, PoolShape, SchedulerConfig
from workbench.core.errors import ConfigError, DoesNotFitError, KVCacheTooSmallError
from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.policy import POLICIES, Policy
from workbench.core.records import BlockEventKind, Finished, SettingChange, StepRecord, StepTimes, setting_text
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import Action, RunnerOutput, SampledToken, SchedulerOutput
from workbench.core.units import size_text
from workbench.engine.calls import Call, Room, calls_in_order
from workbench.engine.change import Change, PoolFigures, pool_figures
from workbench.engine.hooks import Hooks
from workbench.engine.interfaces import ModelRunner
from workbench.engine.knobs import SIZES, WEIGHTS, Turn, check_knobs
from workbench.engine.request_stream import RequestStream
from workbench.trace import Trace

# How often a change that does not fit is mended before it is given up.
INSTEAD_TRIES = 4

Clock = Callable[[], float]

logger = logging.getLogger("workbench")


class EngineCore:
    """The scheduler, the runner and the trace, put together. Only one thread may use it.

    args: the settings asked for, for knobs to start from. info and token_text go into the trace. clock: seconds since
    some fixed moment, never going back; it is read here and nowhere below.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: SchedulerConfig,
        policy: Policy,
        trace_steps: int,
        *,
        args: EngineArgs | None = None,
        info: Mapping[str, Any] | None = None,
        token_text: Callable[[int], str] | None = None,
        trace_memory_bytes: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.runner = runner
        self.args = args or EngineArgs()
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

    def predict(self, changes: Mapping[str, Any]) -> Change:
        """What configure would do, computed and not done; a change that would not fit says so in `refused`."""
        turn = check_knobs(self._named(changes), self.args, self.scheduler.config)
        try:
            pool = self._planned(turn)
        except KVCacheTooSmallError as error:
            now = self._figures()
            return Change(changes, {}, now, now, refused=str(error), instead=self._instead(changes, error))
        predicted = self._predicted(changes, turn, pool)
        refusal = self._refusal(turn, pool)
        if refusal is None:
            return predicted
        instead, calls = self._instead(changes, refusal), self._calls(changes, turn, pool)
        return replace(predicted, refused=str(refusal), instead=instead, calls=calls)

    def _refusal(self, turn: Turn, pool: PoolShape) -> DoesNotFitError | None:
        try:
            self._check_fit(pool)
            if turn.args.weight_format != self.args.weight_format:
                self.runner.check_weights(turn.args.weight_format)
        except DoesNotFitError as error:
            return error
        return None

    def _instead(self, changes: Mapping[str, Any], refusal: DoesNotFitError) -> dict[str, Any] | None:
        """The changes with what each refusal names in its place, once that fits."""
        tried = dict(changes)
        for _ in range(INSTEAD_TRIES):
            if not refusal.instead:
                return None
            if any(name in SIZES for name in refusal.instead):
                tried = {name: value for name, value in tried.items() if name not in SIZES}
            tried |= refusal.instead
            turn = check_knobs(self._named(tried), self.args, self.scheduler.config)
            try:
                found = self._refusal(turn, self._planned(turn))
            except KVCacheTooSmallError as error:
                found = error
            if found is None:
                return tried
            refusal = found
        return None

    def _calls(self, changes: Mapping[str, Any], turn: Turn, pool: PoolShape) -> tuple[Call, ...]:
        """The calls that would do it one after the other, where one alone does not fit for the new weights' sake."""
        if turn.args.weight_format == self.args.weight_format:
            return ()
        try:
            self.runner.check_weights(turn.args.weight_format)
        except DoesNotFitError as error:
            if not error.need:  # not for want of memory: no order of calls would help
                return ()
        config = self.scheduler.config
        need = self.runner.predict_weight_bytes(turn.args.weight_format)
        room = Room(self.runner.spec.weight_bytes, need, self.runner.free_bytes())
        calls = calls_in_order(changes, config.pool, pool, room)
        try:
            for call in calls:
                turned = {name: value for name, value in call.settings.items() if name in POOL_SETTINGS}
                planned = self._planned(check_knobs(turned, self.args, config))
                self.scheduler.check_pool(config.with_pool(planned))
        except DoesNotFitError:  # a live request needs more blocks than that
            return ()
        return calls

    def memory(self, reading: DeviceReading) -> list[MemoryRow]:
        """The runner's ledger, held against the reading, with the KV pool split by what its blocks are doing."""
        pool, rows = self.scheduler.kv.pool, []
        for row in self.runner.memory(reading):
            if row.kind != "kv":
                rows.append(row)
                continue
            block_bytes = row.bytes // pool.num_blocks
            free, cached = pool.num_free, pool.num_cached_free
            parts = (
                ("KV cache, in use", "kv_used", pool.num_blocks - free),
                ("KV cache, cached prefixes", "kv_cached", cached),
                ("KV cache, free", "kv_free", free - cached),
            )
            rows += [MemoryRow(name, kind, blocks * block_bytes) for name, kind, blocks in parts]
        return rows

    def check(self, changes: Mapping[str, Any]) -> None:
        """Raise what configure would raise now, before anything is loaded for it."""
        turn = check_knobs(self._named(changes), self.args, self.scheduler.config)
        refusal = self._refusal(turn, self._planned(turn))
        if refusal is not None:
            raise refusal

    def configure(self, changes: Mapping[str, Any], weights: object = None) -> Change:
        """Turn knobs between two steps; all or, when one is refused, none.

        A change of the KV pool or of the weights is a step of its own, in which nobody runs. weights: those for a new
        quantization, if they have been loaded before. Raises ConfigError (DoesNotFitError, KVCacheTooSmallError) or
        PolicyError.
        """
        turn = check_knobs(self._named(changes), self.args, self.scheduler.config)
        pool = self._planned(turn)
        self._check_fit(pool)
        predicted = self._predicted(changes, turn, pool)
        reload = turn.args.weight_format != self.args.weight_format
        if reload and weights is None:
            weights = self.runner.load_weights(turn.args.weight_format)
        policy = self.scheduler.policy
        if turn.policy is not None:
            self.scheduler.set_policy(turn.policy)
            self._remember(turn.policy)
            self._changes.append(SettingChange("scheduling_policy", turn.policy.name))
        before = self.scheduler.config.pool
        remade = before[1:3] != pool[1:3]
        told = [SettingChange(n, str(v)) for n, v in turn.pool.items() if remade or n not in RECOMPUTE_SETTINGS]
        if reload:
            told += [SettingChange(name, str(getattr(turn.args, name))) for name in WEIGHTS if name in changes]
        record = None
        if pool == before and not reload:
            self._changes += told
        else:
            try:
                use = (lambda: self.runner.use_weights(weights)) if reload else None
                record = self._change_pool(pool, told, remade or reload, use)
            except ConfigError:
                if turn.policy is not None:
                    self.scheduler.set_policy(policy)
                    self._changes.append(SettingChange("scheduling_policy", policy.name))
                raise
        self.scheduler.configure(self.scheduler.config.with_changes(**turn.limits))
        self._changes += [SettingChange(name, str(value)) for name, value in turn.limits.items()]
        self.args = turn.args
        return replace(
            predicted,
            measured=self._figures(record),
            preempted=() if record is None else _preempted(record),
            seconds=None if record is None else record.duration,
            step=self.scheduler.num_steps if record is None else record.step,
            trace=self.trace,
        )

    def _named(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """The changes with a reader's own policy in the place of its name."""
        wanted = changes.get("scheduling_policy")
        own = self.own_policies.get(wanted) if isinstance(wanted, str) else None
        return changes if own is None else {**changes, "scheduling_policy": own}

    def _planned(self, turn: Turn) -> PoolShape:
        if not turn.pool:
            return self.scheduler.config.pool
        return self.runner.plan_pool(turn.args, tuple(turn.pool))

    def _check_fit(self, pool: PoolShape) -> None:
        if pool != self.scheduler.config.pool:
            self.scheduler.check_pool(self.scheduler.config.with_pool(pool))
            self.runner.check_room(pool)

    def _predicted(self, changes: Mapping[str, Any], turn: Turn, pool: PoolShape) -> Change:
        config = self.scheduler.config
        remade = config.pool[1:3] != pool[1:3]
        reload = turn.args.weight_format != self.args.weight_format
        preempted, evicted = self.scheduler.preview_pool(config.with_pool(pool), remade or reload)
        notes = []
        weight_bytes = self.runner.spec.weight_bytes
        if reload:
            weight_bytes = self.runner.predict_weight_bytes(turn.args.weight_format)
            notes.append(
                "All running requests are preempted and computed again with the new weights; cached blocks go. The new "
                f"weights are read from the checkpoint; until they are in force, they take {size_text(weight_bytes)} "
                "beside the old ones."
            )
        if remade:
            notes.append("All running requests are preempted and computed again in the new pool; cached blocks go.")
        resolved = {
            "num_gpu_blocks_override": pool.num_blocks,
            "kv_cache_memory_bytes": pool.num_bytes,
            "block_size": pool.block_size,
            "kv_cache_dtype": pool.kv_cache_dtype,
        }
        resolved = {name: resolved[name] for name in resolved if turn.pool} | dict(turn.limits)
        if turn.policy is not None:
            resolved["scheduling_policy"] = turn.policy.name
        resolved |= {name: getattr(turn.args, name) for name in WEIGHTS if name in changes}
        return Change(
            dict(changes),
            resolved,
            self._figures(),
            pool_figures(pool, config.max_model_len, len(preempted), evicted)._replace(weight_bytes=weight_bytes),
            preempted=tuple(preempted),
            notes=tuple(notes),
        )

    def _figures(self, record: StepRecord | None = None) -> PoolFigures:
        """The pool as it is, its bytes as the runner holds them; record: the step that changed it."""
        config = self.scheduler.config
        preempted = evicted = 0
        if record is not None:
            preempted = len(_preempted(record))
            evicted = sum(e.kind is BlockEventKind.EVICT for e in record.block_events)
        held = sum(row.bytes for row in self.runner.memory() if row.kind in ("kv", "kv_scales"))
        figures = pool_figures(config.pool, config.max_model_len, preempted, evicted)
        return figures._replace(kv_cache_bytes=held, weight_bytes=self.runner.spec.weight_bytes)

    def recompute_with(self, change: Callable[[], None], told: SettingChange) -> StepRecord:
        """Change what the runner computes with, as a step in which nobody runs.

        No KV of before is used again: running requests are preempted and computed anew, cached blocks are forgotten.
        change must not raise; told is how the record tells of it.
        """
        return self._change_pool(self.scheduler.config.pool, [told], True, change)

    def _change_pool(
        self, pool: PoolShape, told: list[SettingChange], recompute: bool, change: Callable[[], None] | None
    ) -> StepRecord:
        """A step that changes the pool, or what is computed with, and nothing else; out of memory, the old stay."""
        scheduler, old = self.scheduler, self.scheduler.config
        began = self._clock()
        grows = not recompute and pool.num_blocks > old.num_blocks
        if grows:
            self.runner.change_pool(pool, ())  # first, as nothing has to be undone if memory runs out
        copies = scheduler.change_pool(old.with_pool(pool), setting_text(told), recompute)
        failure = None
        if not grows and pool != old.pool:
            try:
                self.runner.change_pool(pool, copies)
            except ConfigError as error:
                failure = error
                told = [SettingChange(change.name, f"not changed: {error}") for change in told]
                scheduler.change_pool(old, setting_text(told), recompute)
        if change is not None and failure is None:
            change()
        plan = scheduler.hold()
        self._note_first_scheduled(plan, began - self._start)
        self.runner.execute(plan)
        self._changes += told
        result = RunnerOutput({}, {}, self._clock() - began, 0.0, 0.0)
        record = self._record(plan, began, 0.0, result, self._clock())
        if failure is not None:
            raise failure
        return record

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
        self.trace.append(record, self.scheduler.freeze)
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


def _preempted(record: StepRecord) -> tuple[str, ...]:
    return tuple(d.request_id for d in record.decisions if d.action is Action.PREEMPT)


def _stop_reason(ended: Finished, params: SamplingParams) -> int | str | None:
    """vLLM gives a stop token as a number and a stop string as a string."""
    if ended.finish_reason == "stop" and ended.detail and ended.detail not in params.stop:
        return int(ended.detail)
    return ended.detail or None
