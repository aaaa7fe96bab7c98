"""One request's life, read from the records: what it did or waited for in each step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from workbench.core.records import Arrival, Finished, StepRecord
from workbench.core.rows import Decisions
from workbench.core.scheduler_output import Action, Decision, Reason


class Batch:
    """What the moments of one step share. start and end in seconds on the engine's clock."""

    __slots__ = ("_ran", "_record", "end", "start", "step")

    def __init__(self, record: StepRecord) -> None:
        self.step, self.start, self.end = record.step, record.time, record.time + record.duration
        self._record = record
        self._ran: tuple[tuple[str, int], ...] | None = None

    def ran(self) -> tuple[tuple[str, int], ...]:
        """(request id, tokens) of all that computed something, most tokens first."""
        if self._ran is None:
            ran = ((d.request_id, d.num_tokens) for d in self._record.decisions if d.num_tokens)
            self._ran = tuple(sorted(ran, key=lambda r: -r[1]))
        return self._ran


class Moment(NamedTuple):
    """One step of a request.

    until: when its next step began, which is long after this one's end if the engine was paused; for the newest, end.
    root: the decision that explains it; for a request that waits behind another one, that one's.
    """

    batch: Batch
    decision: Decision
    root: Decision
    is_first_token: bool
    until: float

    @property
    def step(self) -> int:
        """Which step."""
        return self.batch.step

    @property
    def start(self) -> float:
        """When the step began, in seconds on the engine's clock."""
        return self.batch.start

    @property
    def end(self) -> float:
        """When the step ended."""
        return self.batch.end

    @property
    def neighbours(self) -> tuple[tuple[str, int], ...]:
        """(request id, tokens) of what else ran, most tokens first."""
        return tuple(r for r in self.batch.ran() if r[0] != self.decision.request_id)


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
        for arrival in record.arrivals:
            if (found := draft(arrival.request_id)) is not None:
                found.arrival = arrival
        if wanted is None or not wanted.isdisjoint(_names(record.decisions)):
            batch, decisions = Batch(record), {d.request_id: d for d in record.decisions}
            first = {s.request_id for s in record.sampled if s.position == 0}
            for name, decision in decisions.items():
                if (found := draft(name)) is not None:
                    found.moments.append((batch, decision, _root(decision, decisions), name in first))
        for ended in record.finished:
            if (found := draft(ended.request_id)) is not None:
                found.finished, found.finished_step = ended, record.step
    return {name: found.life(name) for name, found in drafts.items()}


@dataclass(slots=True)
class _Draft:
    arrival: Arrival | None = None
    finished: Finished | None = None
    finished_step: int | None = None
    moments: list[tuple[Batch, Decision, Decision, bool]] = field(default_factory=list)

    def life(self, name: str) -> Life:
        until = [*(batch.start for batch, *_ in self.moments[1:]), *(batch.end for batch, *_ in self.moments[-1:])]
        moments = tuple(Moment(*moment, at) for moment, at in zip(self.moments, until, strict=True))
        return Life(name, self.arrival, self.finished, self.finished_step, moments)


def _names(decisions: Sequence[Decision]) -> Iterable[str]:
    return decisions.request_ids if isinstance(decisions, Decisions) else (d.request_id for d in decisions)


def _root(decision: Decision, decisions: dict[str, Decision]) -> Decision:
    """Follow "behind r4" to what r4 itself waits for."""
    seen: set[str] = set()
    while decision.action == Action.WAIT and decision.reason in (Reason.BEHIND, Reason.SIBLING):
        ahead = decisions.get(decision.other)
        if ahead is None or ahead.request_id in seen or ahead.action != Action.WAIT:
            return decision
        seen.add(ahead.request_id)
        decision = ahead
    return decision
