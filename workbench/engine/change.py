"""What turning a knob did: asked for, in force, predicted before and measured after."""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workbench.core.config import PoolShape
from workbench.core.units import size_text, time_text
from workbench.engine.calls import Call
from workbench.trace import Trace

SPEED_STEPS = 200


class PoolFigures(NamedTuple):
    """The KV pool in numbers. num_tokens: what it holds; max_concurrency: requests of max_model_len that fit at once.

    num_preempted, num_evicted: requests preempted and cached blocks forgotten by the change. weight_bytes: what the
    model's weights take.
    """

    num_blocks: int
    block_size: int
    kv_cache_dtype: str
    kv_cache_bytes: int
    num_tokens: int
    max_concurrency: float
    num_preempted: int
    num_evicted: int
    weight_bytes: int = 0


def pool_figures(pool: PoolShape, max_model_len: int, num_preempted: int = 0, num_evicted: int = 0) -> PoolFigures:
    """The figures of a pool; those of the change are given."""
    return PoolFigures(
        pool.num_blocks,
        pool.block_size,
        pool.kv_cache_dtype,
        pool.num_bytes,
        pool.num_tokens,
        round(pool.num_tokens / max_model_len, 2),
        num_preempted,
        num_evicted,
    )


class Speed(NamedTuple):
    """Tokens sampled per second of step time over the steps before and after a change; None where there are none."""

    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """The answer of `configure`, and of `predict`, which changes nothing.

    requested: as given. resolved: what came or would come of it. before, predicted, measured: the KV pool's figures,
    computed before the change and taken from the engine and its memory after it; measured is None where nothing was
    changed. preempted: the requests that were, or would be, computed again. refused: why it would be refused; instead:
    what is closest to it and would fit, as arguments of `configure`, None where nothing like it would. calls: what
    would do it in several calls of `configure`, in order, where one alone does not fit. seconds: how
    long the change held up the engine. step: the record that tells of it. notes: what else a reader should know.
    """

    requested: Mapping[str, Any]
    resolved: Mapping[str, Any]
    before: PoolFigures
    predicted: PoolFigures
    measured: PoolFigures | None = None
    preempted: tuple[str, ...] = ()
    refused: str | None = None
    instead: Mapping[str, Any] | None = None
    calls: tuple[Call, ...] = ()
    seconds: float | None = None
    step: int | None = None
    notes: tuple[str, ...] = ()
    trace: Trace | None = field(default=None, repr=False, compare=False)

    def speed(self, steps: int = SPEED_STEPS) -> Speed:
        """Measured from the recorded steps right before and right after it, at most `steps` of each."""
        if self.trace is None or self.step is None:
            return Speed(None, None)
        return Speed(
            _tokens_per_second(self.trace, self.step - steps, self.step),
            _tokens_per_second(self.trace, self.step + 1, self.step + 1 + steps),
        )

    def to_json(self) -> dict[str, Any]:
        """For views: the figures as mappings."""
        return {
            "requested": {name: str(value) for name, value in self.requested.items()},
            "resolved": {name: str(value) for name, value in self.resolved.items()},
            "before": self.before._asdict(),
            "predicted": self.predicted._asdict(),
            "measured": None if self.measured is None else self.measured._asdict(),
            "preempted": list(self.preempted),
            "refused": self.refused,
            "instead": None if self.instead is None else dict(self.instead),
            "calls": [[call.code, call.why] for call in self.calls],
            "seconds": self.seconds,
            "step": self.step,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        head, rows = self._table()
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
        return "\n".join([self._headline(), *(line.rstrip() for line in lines), *self._notes()])

    def _repr_html_(self) -> str:
        head, rows = self._table()
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        return f"<b>{html.escape(self._headline())}</b><table><tr>{cells}</tr>{body}</table>{notes}"

    def _headline(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.requested.items())
        state = "refused" if self.refused else "predicted only" if self.measured is None else f"step {self.step}"
        return f"Change({told}): {state}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        columns = {"before": self.before, "predicted": self.predicted}
        if self.measured is not None:
            columns["measured"] = self.measured
        rows = [[label, *(show(figures) for figures in columns.values())] for label, show in _ROWS]
        for name, value in self.resolved.items():
            sized = name.endswith("_bytes") and isinstance(value, int)
            shown = f"{size_text(value)} ({value:,} bytes)" if sized else str(value)
            rows.append([name, "", shown, *([""] if self.measured is not None else [])])
        return ["", *columns], rows

    def _notes(self) -> list[str]:
        notes = list(self.notes)
        if self.preempted:
            notes.append(f"Preempted: {', '.join(self.preempted)}.")
        if self.refused:
            notes.append(f"Refused: {self.refused}.")
        if self.instead is not None:
            told = ", ".join(f"{name}={value!r}" for name, value in self.instead.items())
            notes.append(f"This would fit: {told}.")
        if self.calls:
            notes.append(f"In several calls it would fit: {'; then '.join(call.code for call in self.calls)}.")
        if self.seconds is not None:
            notes.append(f"The change took {time_text(self.seconds)}.")
        before, after = self.speed()
        if before is not None and after is not None:
            notes.append(f"{before:.0f} tokens/s in the steps before it, {after:.0f} tokens/s after it.")
        return notes


_ROWS: tuple[tuple[str, Callable[[PoolFigures], str]], ...] = (
    ("weights", lambda f: size_text(f.weight_bytes)),
    ("KV pool", lambda f: size_text(f.kv_cache_bytes)),
    ("blocks", lambda f: f"{f.num_blocks:,} of {f.block_size} tokens, {f.kv_cache_dtype}"),
    ("tokens that fit", lambda f: f"{f.num_tokens:,}"),
    ("requests of full length at once", lambda f: f"{f.max_concurrency:,.1f}"),
    ("requests preempted", lambda f: f"{f.num_preempted:,}"),
    ("cached blocks forgotten", lambda f: f"{f.num_evicted:,}"),
)


def _tokens_per_second(trace: Trace, first: int, end: int) -> float | None:
    records = [record for record in trace.records(max(first, 0), end) if record.num_scheduled_tokens]
    seconds = sum(record.duration for record in records)
    return sum(len(record.sampled) for record in records) / seconds if seconds else None
