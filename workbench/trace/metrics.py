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


def histogram(values: Sequence[float], num_bins: int) -> tuple[float, list[int]]:
    """The right edge of the last bin, and the count of each from 0 on; what lies beyond the edge is in the last bin.

    The edge is a little past the 99th percentile, so that one outlier does not hide the rest.
    """
    largest = max(values, default=0.0)
    edge = max(1e-6, min(largest * 1.0001, percentile(values, 99) * 1.25 if values else 0.0))
    bins = [0] * num_bins
    for value in values:
        bins[max(0, min(num_bins - 1, math.floor(value / edge * num_bins)))] += 1
    return edge, bins


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits that a request should keep (service level objectives), in seconds; None for no limit.

    ttft: to its first token. itl: between its tokens, on average. e2e: from arrival to its end.
    """

    ttft: float | None = None
    itl: float | None = None
    e2e: float | None = None

    def met_by(self, request: SequenceMetrics) -> bool:
        """Whether a request that ended kept every limit; one that failed did not."""
        mean = sum(request.itl) / len(request.itl) if request.itl else None
        pairs = ((self.ttft, request.ttft), (self.itl, mean), (self.e2e, request.e2e))
        kept = all(limit is None or value is None or value <= limit for limit, value in pairs)
        return kept and request.finish_reason != "error"


@dataclass(frozen=True, slots=True)
class Goodput:
    """Of `ended` requests (cancelled ones are not counted) `met` kept the limits: a share, and requests a second.

    Requests a second that were served well, instead of tokens a second, as in DistServe (Zhong et al., 2024).
    """

    met: int
    ended: int
    per_second: float

    @property
    def share(self) -> float:
        """Between 0 and 1; NaN if nothing ended."""
        return self.met / self.ended if self.ended else math.nan


def goodput(records: Sequence[StepRecord], slo: Slo, measured: Mapping[str, SequenceMetrics] | None = None) -> Goodput:
    """How many requests a second were served within the limits, over the records."""
    metrics = (measure(records) if measured is None else measured).values()
    ended = [m for m in metrics if m.finish_reason not in (None, "abort")]
    met = sum(1 for m in ended if slo.met_by(m))
    seconds = duration_of(records)
    return Goodput(met, len(ended), met / seconds if seconds else 0.0)


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
