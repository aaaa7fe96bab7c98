"""What each request of a run got: waiting, first token, pace, end. It reads records, real or simulated."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from workbench.core.records import Arrival, StepRecord
from workbench.core.scheduler_output import Action

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class SequenceMetrics:
    """One sequence (a request with n=1). Seconds; None where the run ended before it happened.

    arrival_time: on the run's clock. queue_time: arrival to the start of its first step. ttft: arrival to its first
    token. itl: from each token to the next one. e2e: arrival to its end. finish_reason as in records.
    """

    request_id: str
    priority: int
    arrival_time: float
    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int
    num_preemptions: int
    queue_time: float | None
    ttft: float | None
    itl: tuple[float, ...]
    e2e: float | None
    finish_reason: str | None


def measure(records: Iterable[StepRecord]) -> dict[str, SequenceMetrics]:
    """Metrics of every sequence whose arrival the records hold, in order of arrival."""
    drafts: dict[str, _Draft] = {}
    for record in records:
        for arrival in record.arrivals:
            drafts[arrival.request_id] = _Draft(arrival)
        for decision in record.decisions:
            draft = drafts.get(decision.request_id)
            if draft is None:
                continue
            if decision.action is Action.PREEMPT:
                draft.preemptions += 1
            elif decision.num_tokens and draft.first_step is None:
                draft.first_step = record.time
                draft.cached = decision.num_cached
        end = record.time + record.duration
        for sampled in record.sampled:
            draft = drafts.get(sampled.request_id)
            if draft is not None:
                draft.tokens.append(end)
        for finished in record.finished:
            draft = drafts.get(finished.request_id)
            if draft is not None:
                draft.end, draft.finish_reason = end, finished.finish_reason
    return {name: draft.metrics() for name, draft in drafts.items()}


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile (0 to 100), between neighbours by straight line; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarize(records: Sequence[StepRecord], measured: Mapping[str, SequenceMetrics] | None = None) -> dict[str, float]:
    """A run in numbers, real or simulated. Seconds and tokens a second; NaN where nothing happened.

    measured: what `measure` gave for these records, if it is at hand.

    seconds, steps, requests, preemptions, output_tokens_per_second, scheduled_tokens_per_second, and ttft, itl, e2e
    and queue each with _p50, _p95 and _p99.
    """
    metrics = (measure(records) if measured is None else measured).values()
    seconds = duration_of(records)
    times: dict[str, list[float]] = {
        "ttft": [m.ttft for m in metrics if m.ttft is not None],
        "itl": [gap for m in metrics for gap in m.itl],
        "e2e": [m.e2e for m in metrics if m.e2e is not None],
        "queue": [m.queue_time for m in metrics if m.queue_time is not None],
    }
    found = {
        "seconds": seconds,
        "steps": float(len(records)),
        "requests": float(len(metrics)),
        "preemptions": float(sum(m.num_preemptions for m in metrics)),
        "output_tokens_per_second": sum(m.num_output_tokens for m in metrics) / seconds if seconds else 0.0,
        "scheduled_tokens_per_second": sum(r.num_scheduled_tokens for r in records) / seconds if seconds else 0.0,
    }
    for name, values in times.items():
        found |= {f"{name}_p{q}": percentile(values, q) for q in PERCENTILES}
    return found


def duration_of(records: Sequence[StepRecord]) -> float:
    """Seconds from the first arrival to the end of the last step that computed something."""
    first = next((arrival.time for record in records for arrival in record.arrivals), None)
    last = next((r for r in reversed(records) if r.num_scheduled_tokens), None)
    return 0.0 if first is None or last is None else last.time + last.duration - first


@dataclass(slots=True)
class _Draft:
    arrival: Arrival
    first_step: float | None = None
    cached: int = 0
    preemptions: int = 0
    tokens: list[float] = field(default_factory=list)
    end: float | None = None
    finish_reason: str | None = None

    def metrics(self) -> SequenceMetrics:
        begin, tokens = self.arrival.time, self.tokens
        return SequenceMetrics(
            self.arrival.request_id,
            self.arrival.priority,
            begin,
            len(self.arrival.prompt_token_ids),
            len(tokens),
            self.cached,
            self.preemptions,
            None if self.first_step is None else self.first_step - begin,
            tokens[0] - begin if tokens else None,
            tuple(b - a for a, b in pairwise(tokens)),
            None if self.end is None else self.end - begin,
            self.finish_reason,
        )
