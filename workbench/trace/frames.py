"""A trace as pandas tables. pandas is loaded when somebody asks for them, and by nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from workbench.core.errors import MissingPackageError
from workbench.core.reasons import explain
from workbench.core.records import Arrival, StepRecord
from workbench.trace.metrics import measure
from workbench.trace.progress import progress

if TYPE_CHECKING:
    from pandas import DataFrame

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, repr=False)
class TraceFrames:
    """One table for each kind of thing that a trace holds. Names ending in _s are seconds, times on the run's clock.

    steps (one row a step): step; time_s when it began; duration_s and its parts schedule_s, prepare_s, forward_s,
    sample_s, update_s; num_scheduled_tokens of token_budget; max_num_seqs; num_scheduled_requests, which
    computed something, and num_waiting_requests, which did not; num_free_blocks after the step.

    requests (one row a sequence whose arrival the trace holds): request_id; parent_id, which differs when n > 1; label;
    priority; arrival_time_s; num_prompt_tokens; max_tokens; num_output_tokens; num_cached_tokens; num_preemptions;
    queue_s from arrival to the first step; ttft_s to the first token; itl_mean_s between tokens; e2e_s to the end;
    finish_reason. Empty where it has not happened.

    decisions (one row a live request in a step): step; time_s; request_id; action; reason; num_tokens computed;
    num_computed before; num_cached; need, have and other (see Reason); text, the same in English.

    tokens (one row a sampled token): step; time_s when the step ended; request_id; position (0 for the first);
    token_id; text; logprob, if asked for.

    block_events (one row a change of a KV block, in order): step; kind; block; request_id; other (see BlockEventKind).

    changes (one row a knob that was turned): step; name; value; request_id.
    """

    steps: "DataFrame"
    requests: "DataFrame"
    decisions: "DataFrame"
    tokens: "DataFrame"
    block_events: "DataFrame"
    changes: "DataFrame"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{f.name}: {len(getattr(self, f.name)):,} rows" for f in fields(self))
        return f"TraceFrames({sizes})"


COLUMNS: dict[str, tuple[str, ...]] = {
    "steps": (
        *("step", "time_s", "duration_s", "schedule_s", "prepare_s", "forward_s", "sample_s", "update_s"),
        *("num_scheduled_tokens", "token_budget", "max_num_seqs"),
        *("num_scheduled_requests", "num_waiting_requests", "num_free_blocks"),
    ),
    "requests": (
        *("request_id", "parent_id", "label", "priority", "arrival_time_s", "num_prompt_tokens", "max_tokens"),
        *("num_output_tokens", "num_cached_tokens", "num_preemptions", "queue_s", "ttft_s", "itl_mean_s", "e2e_s"),
        "finish_reason",
    ),
    "decisions": (
        *("step", "time_s", "request_id", "action", "reason", "num_tokens", "num_computed", "num_cached"),
        *("need", "have", "other", "text"),
    ),
    "tokens": ("step", "time_s", "request_id", "position", "token_id", "text", "logprob"),
    "block_events": ("step", "kind", "block", "request_id", "other"),
    "changes": ("step", "name", "value", "request_id"),
}


def frames_of(records: Sequence[StepRecord], token_text: Callable[[int], str] | None) -> TraceFrames:
    """The tables of some records. Raises MissingPackageError without pandas."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingPackageError(
            "to_pandas() needs pandas, which is not installed here: pip install 'inference-workbench[pandas]'"
        ) from error
    explained = progress(records, "Explaining the decisions")
    rows: dict[str, Iterator[Row]] = {
        "steps": map(_step, records),
        "requests": _requests(records),
        "decisions": ((r.step, r.time, *map(_plain, d), explain(d)) for r in explained for d in r.decisions),
        "tokens": _tokens(records, token_text or (lambda token: f"<{token}>")),
        "block_events": ((r.step, *map(_plain, e)) for r in records for e in r.block_events),
        "changes": ((r.step, *c) for r in records for c in r.changes),
    }
    return TraceFrames(**{name: pd.DataFrame(list(rows[name]), columns=list(COLUMNS[name])) for name in COLUMNS})


def _step(record: StepRecord) -> Row:
    scheduled = sum(d.num_tokens > 0 for d in record.decisions)
    return (
        *(record.step, record.time, record.duration, *record.times),
        *(record.num_scheduled_tokens, record.token_budget, record.max_num_seqs),
        *(scheduled, len(record.decisions) - scheduled, record.num_free_blocks),
    )


def _requests(records: Sequence[StepRecord]) -> Iterator[Row]:
    arrivals: dict[str, Arrival] = {a.request_id: a for record in records for a in record.arrivals}
    for name, m in measure(records).items():
        a = arrivals[name]
        itl_mean = sum(m.itl) / len(m.itl) if m.itl else None
        yield (
            *(name, a.parent_id, a.label, a.priority, a.time, m.num_prompt_tokens, a.max_tokens),
            *(m.num_output_tokens, m.num_cached_tokens, m.num_preemptions, m.queue_time, m.ttft, itl_mean, m.e2e),
            m.finish_reason,
        )


def _tokens(records: Sequence[StepRecord], token_text: Callable[[int], str]) -> Iterator[Row]:
    texts: dict[int, str] = {}
    for record in records:
        end = record.time + record.duration
        for s in record.sampled:
            if s.token_id not in texts:
                texts[s.token_id] = token_text(s.token_id)
            yield (record.step, end, s.request_id, s.position, s.token_id, texts[s.token_id], s.logprob)


def _plain(value: object) -> object:
    """Enumerations as the plain strings that they stand for, which is what one types into a query."""
    return str(value) if isinstance(value, Enum) else value
