"""One request's life, read from the records: what it did or waited for in each step."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from workbench.core.records import Arrival, Finished, StepRecord
from workbench.core.scheduler_output import Action, Decision, Reason


class Moment(NamedTuple):
    """One step of a request. start, end and until in seconds on the engine's clock.

    until: when its next step began, which is long after this one's end if the engine was paused; for the newest, end.
    root: the decision that explains it; for a request that waits behind another one, that one's.
    neighbours: (request id, tokens) of what else ran, most tokens first.
    """

    step: int
    start: float
    end: float
    decision: Decision
    root: Decision
    neighbours: tuple[tuple[str, int], ...]
    is_first_token: bool
    until: float


@dataclass(frozen=True, slots=True)
class Life:
    """A request from arrival to end. arrival is None if the trace has dropped it, finished if it is still alive."""

    request_id: str
    arrival: Arrival | None
    finished: Finished | None
    finished_step: int | None
    moments: tuple[Moment, ...]

    @property
    def first_token(self) -> Moment | None:
        """The step that sampled its first token, if the trace holds it."""
        return next((m for m in self.moments if m.is_first_token), None)


def request_ids(records: Iterable[StepRecord]) -> list[str]:
    """Every sequence that the records name, in order of appearance."""
    found: dict[str, None] = {}
    for record in records:
        for arrival in record.arrivals:
            found[arrival.request_id] = None
        for decision in record.decisions:
            found[decision.request_id] = None
    return list(found)


def life_of(records: Iterable[StepRecord], request_id: str) -> Life:
    """Collect a request's moments. A request that is nowhere in the records has none."""
    lives = lives_of(records, {request_id})
    return lives.get(request_id) or Life(request_id, None, None, None, ())


def lives_of(records: Iterable[StepRecord], wanted: set[str] | None = None) -> dict[str, Life]:
    """The lives of many requests (None: all) in one pass."""
    drafts: dict[str, _Draft] = {}

    def draft(name: str) -> _Draft | None:
        if wanted is not None and name not in wanted:
            return None
        return drafts.setdefault(name, _Draft())

    for record in records:
        decisions = {d.request_id: d for d in record.decisions}
        ran = sorted(((d.request_id, d.num_tokens) for d in record.decisions if d.num_tokens), key=lambda r: -r[1])
        first = {s.request_id for s in record.sampled if s.position == 0}
        for arrival in record.arrivals:
            if (found := draft(arrival.request_id)) is not None:
                found.arrival = arrival
        for decision in record.decisions:
            name = decision.request_id
            if (found := draft(name)) is not None:
                if found.moments:
                    found.moments[-1] = found.moments[-1]._replace(until=record.time)
                found.moments.append(
                    Moment(
                        record.step,
                        record.time,
                        record.time + record.duration,
                        decision,
                        _root(decision, decisions),
                        tuple(r for r in ran if r[0] != name),
                        name in first,
                        record.time + record.duration,
                    )
                )
        for ended in record.finished:
            if (found := draft(ended.request_id)) is not None:
                found.finished, found.finished_step = ended, record.step
    return {name: Life(name, d.arrival, d.finished, d.finished_step, tuple(d.moments)) for name, d in drafts.items()}


@dataclass(slots=True)
class _Draft:
    arrival: Arrival | None = None
    finished: Finished | None = None
    finished_step: int | None = None
    moments: list[Moment] = field(default_factory=list)


def _root(decision: Decision, decisions: dict[str, Decision]) -> Decision:
    """Follow "behind r4" to what r4 itself waits for."""
    seen = set()
    while decision.action == Action.WAIT and decision.reason in (Reason.BEHIND, Reason.SIBLING):
        ahead = decisions.get(decision.other)
        if ahead is None or ahead.request_id in seen or ahead.action != Action.WAIT:
            return decision
        seen.add(ahead.request_id)
        decision = ahead
    return decision
