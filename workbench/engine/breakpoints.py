"""Breakpoints: conditions on a step's record at which the engine pauses."""

from collections.abc import Callable
from dataclasses import dataclass, field

from workbench.core.errors import ConfigError
from workbench.core.records import BlockEventKind, StepRecord
from workbench.core.scheduler_output import Action, Decision, Reason

EVENTS = ("preemption", "allocation_failure", "eviction", "admission", "first_token", "finish")

Check = Callable[[StepRecord], str | None]


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A condition. check(record) says in words what happened, or None. name: for lists and messages."""

    name: str
    check: Check = field(repr=False)


def make_breakpoint(
    event: str | None = None,
    *,
    request: str | None = None,
    free_blocks_under: int | None = None,
    step_longer_than: float | None = None,
    when: Callable[[StepRecord], object] | None = None,
) -> Breakpoint:
    """One condition: an event (of one request, if named), few free blocks, a slow step in seconds, or a predicate.

    Raises ConfigError unless exactly one is given.
    """
    given = [value for value in (event, free_blocks_under, step_longer_than, when) if value is not None]
    if len(given) != 1:
        raise ConfigError("give one condition: an event, free_blocks_under, step_longer_than or when")
    if event is not None:
        if event not in EVENTS:
            raise ConfigError(f"the events are {', '.join(EVENTS)}, not {event!r}")
        name = event if request is None else f"{event} of {request}"
        return Breakpoint(name, _event_check(event, request))
    if request is not None:
        raise ConfigError("request goes with an event")
    if free_blocks_under is not None:
        return Breakpoint(f"fewer than {free_blocks_under} free blocks", _few_blocks(free_blocks_under))
    if step_longer_than is not None:
        return Breakpoint(f"a step over {step_longer_than * 1e3:g} ms", _slow_step(step_longer_than))
    assert when is not None
    return Breakpoint(getattr(when, "__name__", "when"), _predicate(when))


def _event_check(event: str, request: str | None) -> Check:
    def of_request(name: str) -> bool:
        # A request with n > 1 has sequences r3.0, r3.1, ...; its own name stands for all of them.
        return request is None or name == request or name.startswith(f"{request}.")

    def check(record: StepRecord) -> str | None:
        if event == "eviction":
            blocks = [e.block for e in record.block_events if e.kind == BlockEventKind.EVICT]
            return f"cached content of blocks {blocks} was evicted" if blocks and request is None else None
        if event == "finish":
            ended = [f for f in record.finished if of_request(f.request_id)]
            return f"{ended[0].request_id} finished ({ended[0].finish_reason})" if ended else None
        if event == "first_token":
            started = [s for s in record.sampled if s.position == 0 and of_request(s.request_id)]
            return f"{started[0].request_id} got its first token" if started else None
        for decision in record.decisions:
            if of_request(decision.request_id) and (text := _decision_text(event, decision)):
                return text
        return None

    return check


def _decision_text(event: str, d: Decision) -> str | None:
    if event == "preemption" and d.action == Action.PREEMPT and d.reason == Reason.RECONFIGURED:
        return f"{d.request_id} was preempted by {d.other}"
    if event == "preemption" and d.action == Action.PREEMPT:
        who = "it" if d.other in (d.request_id, "") else d.other
        return f"{d.request_id} was preempted: {who} needed {_blocks(d.need)}, {d.have} free"
    if event == "allocation_failure" and d.reason == Reason.NO_BLOCKS:
        return f"{_blocks(d.need)} needed, {d.have} free ({d.action}: {d.request_id})"
    if event == "admission" and d.reason in (Reason.ADMITTED, Reason.RESUMED):
        return f"{d.request_id} was {d.reason}"
    return None


def _few_blocks(limit: int) -> Check:
    def check(record: StepRecord) -> str | None:
        return f"{_blocks(record.num_free_blocks)} free" if record.num_free_blocks < limit else None

    return check


def _slow_step(seconds: float) -> Check:
    def check(record: StepRecord) -> str | None:
        return f"the step took {record.duration * 1e3:.1f} ms" if record.duration > seconds else None

    return check


def _predicate(when: Callable[[StepRecord], object]) -> Check:
    def check(record: StepRecord) -> str | None:
        return "its condition holds" if when(record) else None

    return check


def _blocks(count: int) -> str:
    return "1 block" if count == 1 else f"{count} blocks"
