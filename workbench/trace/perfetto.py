"""A trace in Chrome's trace-event format, which Perfetto opens: requests, steps and counters as tracks.

Format: "Trace Event Format" of the Chromium project. Times are microseconds.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from workbench.core.reasons import explain
from workbench.core.records import StepRecord
from workbench.core.scheduler_output import Action

ENGINE, REQUESTS = 1, 2
PARTS = ("schedule", "prepare", "forward", "sample", "update")


def trace_events(records: Iterable[StepRecord]) -> dict[str, Any]:
    """The file's content, ready for JSON."""
    return {"displayTimeUnit": "ms", "traceEvents": [*_names(), *_events(records)]}


def _names() -> Iterator[dict[str, Any]]:
    for pid, name in ((ENGINE, "engine"), (REQUESTS, "requests")):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
    yield {"ph": "M", "pid": ENGINE, "tid": 1, "name": "thread_name", "args": {"name": "steps"}}
    yield {"ph": "M", "pid": ENGINE, "tid": 2, "name": "thread_name", "args": {"name": "parts of a step"}}


def _events(records: Iterable[StepRecord]) -> Iterator[dict[str, Any]]:
    rows: dict[str, int] = {}
    for record in records:
        start, length = record.time * 1e6, record.duration * 1e6
        args = {"tokens": record.num_scheduled_tokens, "token_budget": record.token_budget}
        yield _span(ENGINE, 1, f"step {record.step}", start, length, args)
        at = start
        for part, seconds in zip(PARTS, record.times, strict=True):
            yield _span(ENGINE, 2, part, at, seconds * 1e6, {"step": record.step})
            at += seconds * 1e6
        for arrival in record.arrivals:
            row = _row(rows, arrival.request_id)
            yield {"ph": "M", "pid": REQUESTS, "tid": row, "name": "thread_name", "args": {"name": arrival.request_id}}
            yield _instant(row, "arrival", arrival.time * 1e6, {"prompt": arrival.label})
        for decision in record.decisions:
            row = _row(rows, decision.request_id)
            detail = {"step": record.step, "why": explain(decision), "tokens": decision.num_tokens}
            if decision.action == Action.PREEMPT:
                yield _instant(row, "preempted", start, detail)
            else:
                yield _span(REQUESTS, row, decision.action, start, length, detail)
        for ended in record.finished:
            row = _row(rows, ended.request_id)
            yield _instant(row, f"finished: {ended.finish_reason}", start + length, {"detail": ended.detail})
        waiting = sum(d.action in (Action.WAIT, Action.PREEMPT) for d in record.decisions)
        counts = {"KV blocks free": record.num_free_blocks, "requests waiting": waiting}
        counts["tokens in the step"] = record.num_scheduled_tokens
        for name, value in counts.items():
            yield {"ph": "C", "pid": ENGINE, "name": name, "ts": start, "args": {"value": value}}


def _row(rows: dict[str, int], request_id: str) -> int:
    return rows.setdefault(request_id, len(rows) + 1)


def _span(pid: int, tid: int, name: str, start: float, length: float, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "ts": start, "dur": length, "args": args}


def _instant(row: int, name: str, at: float, args: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "i", "s": "t", "pid": REQUESTS, "tid": row, "name": name, "ts": at, "args": args}
