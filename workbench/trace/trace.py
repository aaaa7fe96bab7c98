"""A run as a sequence of StepRecords in a bounded ring, and the state after any of them."""

import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import WorkbenchError
from workbench.core.records import Snapshot, StepRecord
from workbench.trace.files import TraceContent, read_trace, write_trace
from workbench.trace.frames import TraceFrames, frames_of
from workbench.trace.html import render_html
from workbench.trace.keyframes import Keyframe, Keyframes, written_out
from workbench.trace.latency_figure import latency_figure
from workbench.trace.life import lives_of
from workbench.trace.metrics import Slo
from workbench.trace.perfetto import trace_events
from workbench.trace.progress import progress
from workbench.trace.replay import Replay
from workbench.trace.size import record_bytes
from workbench.trace.tokens import tokens_in
from workbench.trace.why import Why, explain_life, why
from workbench.trace.wire import dumps, records_to_json, snapshot_to_json

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

MAX_RECENT = 8


class TraceRangeError(WorkbenchError, IndexError):
    """A step that the trace does not hold: not yet made, or dropped to stay within its bound."""


class Trace:
    """At most `capacity` records, and records of at most about `max_bytes` of memory (None: any number). When a bound
    is reached the oldest are dropped, counted, and folded into the base state.

    One thread appends; any thread may read at the same time. Appending costs one list store and, once a bound is
    reached, one replayed record. Any step is opened by replaying at most KEYFRAME_STEPS records from a keyframe;
    keyframes come with `append` or are made when a step is first opened (see Keyframes). Replaying is done in the
    reader's thread and holds up nobody.

    info: what never changes about the run (model, sizes, settings), for views and files. token_text: the text of a
    token id.
    """

    def __init__(
        self,
        start: Snapshot,
        capacity: int,
        info: Mapping[str, Any] | None = None,
        token_text: Callable[[int], str] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.num_bytes = 0  # of the records that are held, estimated
        self.info = dict(info or {})
        self.token_text = token_text
        self._base = Replay(start)
        self._ring: list[StepRecord | None] = []
        self._sizes = array("q")
        self._newest: StepRecord | None = None
        self._origin = start.step + 1
        self._end = self._origin
        self.first_step = self._origin  # the oldest step that is held
        self._lock = threading.Lock()
        self._keyframes = Keyframes()
        self._recent: OrderedDict[int, Snapshot] = OrderedDict()  # steps opened last, for stepping about

    def append(self, record: StepRecord, state: Callable[[], Keyframe] | None = None) -> None:
        """Add the next record; steps must follow one another without a gap.

        state: gives the state after the record, if somebody has it at hand; called where a keyframe is due.
        """
        if record.step != self._end:
            raise WorkbenchError(f"record of step {record.step} where step {self._end} is due")
        size, slot = record_bytes(record, self._newest), self._slot(record.step)
        while len(self) and (len(self) >= self.capacity or self.num_bytes + size > (self.max_bytes or math.inf)):
            self._drop_oldest()
        if slot == len(self._ring):
            self._ring.append(record)
            self._sizes.append(size)
        else:
            self._ring[slot], self._sizes[slot] = record, size
        self.num_bytes += size
        self._newest = record
        self._end = record.step + 1
        if state is not None and self._keyframes.due(record.step):
            with self._lock:
                self._keyframes.keep(state())

    def __len__(self) -> int:
        return self._end - self.first_step

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self.records())

    def __repr__(self) -> str:
        if not len(self):
            return "Trace(no steps yet)"
        dropped = f", {self.num_dropped} older ones dropped" if self.num_dropped else ""
        limit = "" if self.max_bytes is None else f" or {self.max_bytes / 2**20:,.0f} MiB"
        return (
            f"Trace(steps {self.first_step} to {self.last_step}{dropped}; {self.num_bytes / 2**20:,.1f} MiB, keeps at "
            f"most {self.capacity:,} steps{limit})"
        )

    @property
    def num_dropped(self) -> int:
        """Steps that the run had and the trace no longer has."""
        return self.first_step

    @property
    def last_step(self) -> int:
        """The newest step that is held; first_step - 1 if there is none."""
        return self._end - 1

    def record(self, step: int) -> StepRecord:
        """The record of a step. Raises TraceRangeError if it is not held."""
        if self.first_step <= step < self._end:
            found = self._ring[self._slot(step)]
            if found is not None and found.step == step:
                return found
        raise TraceRangeError(
            f"step {step} is not in the trace, which holds steps {self.first_step} to {self.last_step}; a larger "
            "trace_steps or trace_memory_bytes keeps more"
        )

    def records(self, since: int | None = None, until: int | None = None) -> list[StepRecord]:
        """Records from step `since` (or the oldest) up to, not including, `until`; dropped ones are left out."""
        start = self.first_step if since is None else max(since, self.first_step)
        end = self._end if until is None else min(until, self._end)
        found = []
        for step in range(start, end):
            record = self._ring[self._slot(step)]
            if record is not None and record.step == step:
                found.append(record)
        return found

    def at(self, step: int | None = None) -> Snapshot:
        """The state after a step (default: the newest). Step first_step - 1 is the state before the oldest record."""
        with self._lock:
            target = self.last_step if step is None else step
            if not self.first_step - 1 <= target <= self.last_step:
                raise TraceRangeError(
                    f"step {target} is not in the trace, which holds steps {self.first_step} to {self.last_step}"
                )
            known: dict[int, Keyframe] = {**self._keyframes.frames, **self._recent}
            near = max((s for s in known if self._base.step <= s <= target), default=None)
            start = self._base.snapshot() if near is None else known[near]
            records = self.records(start.step + 1, target + 1)
        snapshot, made = self._replayed(written_out(start), records)
        with self._lock:
            for keyframe in made:
                if self.first_step - 1 <= keyframe.step:
                    self._keyframes.keep(keyframe)
            self._recent[target] = snapshot
            while len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)
        return snapshot

    def _replayed(self, start: Snapshot, records: Sequence[StepRecord]) -> tuple[Snapshot, list[Snapshot]]:
        """The state after the last record, and keyframes that were due on the way."""
        if not records:
            return start, []
        replay, made = Replay(start), []
        for record in progress(records, "Replaying the steps"):
            replay.apply(record)
            if self._keyframes.due(record.step):
                made.append(replay.snapshot())
        return replay.snapshot(), made

    def why(self, request_id: str) -> Why:
        """Why a request took as long as it did: causes in order, with steps and numbers."""
        return why(self.records(), request_id)

    def copy(self) -> "Trace":
        """What is held now, as a trace that no longer grows."""
        base, records = self.held()
        frozen = Trace(base, max(1, len(records)), self.info, self.token_text)
        for record in records:
            frozen.append(record)
        return frozen

    def held(self) -> tuple[Snapshot, list[StepRecord]]:
        """The state before the oldest record, and all records, from one moment."""
        with self._lock:
            return self._base.snapshot(), self.records()

    def save(self, path: str | Path) -> Path:
        """Write the trace to a file and return its path. A run may go on meanwhile; what comes later is not in it."""
        base, records = self.held()
        texts = self._texts(tokens_in(records, base))
        write_trace(Path(path), TraceContent(self.info, texts, base, records))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Trace":
        """Open a saved trace, with no engine and no model. Raises TraceFileError or FileNotFoundError."""
        content = read_trace(Path(path))
        trace = cls(content.base, max(1, len(content.records)), content.info, lambda t: content.texts.get(t, f"<{t}>"))
        for record in content.records:
            trace.append(record)
        return trace

    def to_perfetto(self, path: str | Path) -> Path:
        """Write Chrome trace-event JSON, which Perfetto and chrome://tracing open; returns the path."""
        Path(path).write_bytes(dumps(trace_events(progress(self.records(), "Drawing the steps"))))
        return Path(path)

    def plot_latency(self, slo: Slo | None = None) -> "Figure":
        """Histograms of the latencies with their percentiles, as a plotly figure.

        slo: limits to mark; the title then says how many requests kept them.
        """
        return latency_figure(self.records(), slo or Slo())

    def to_pandas(self) -> TraceFrames:
        """The steps, requests, decisions, tokens, block events and changes as pandas tables (extra: pandas)."""
        return frames_of(self.records(), self.token_text)

    def to_html(self, path: str | Path, view: str = "dashboard") -> Path:
        """Write one page that replays the trace in any browser, with no kernel and no network; returns the path."""
        Path(path).write_text(self.page(view), encoding="utf-8")
        return Path(path)

    def page(self, view: str = "dashboard") -> str:
        """The HTML that `to_html` writes."""
        title = f"{self.info.get('model', 'engine')}: steps {self.first_step} to {self.last_step}"
        lives = lives_of(progress(self.records(), "Reading the steps"))
        told = progress(lives.items(), "Explaining the requests", "request")
        answers = {name: explain_life(life).to_json() for name, life in told}
        [payload] = self.payloads(max(1, len(self)))
        return render_html(self.info, payload, answers, view, title)

    def payloads(self, num_steps: int) -> list[dict[str, Any]]:
        """The whole trace as frames of the views' stream, with at most so many steps each (extension/PROTOCOL.md)."""
        base, records = self.held()
        last = records[-1] if records else None
        status: dict[str, Any] = {
            "state": "closed",
            "paused_at": None,
            "speed": None,
            "step": self.last_step,
            "time": 0.0 if last is None else last.time + last.duration,
            "max_num_seqs": 0 if last is None else last.max_num_seqs,
            "max_num_batched_tokens": 0 if last is None else last.token_budget,
            "num_running": len(self.at().running),
            "num_waiting": len(self.at().waiting),
            "memory": [],
            "dropped_steps": self.num_dropped,
            "message": "a saved trace",
            "breakpoints": [],
        }
        made: list[dict[str, Any]] = [
            {"records": records_to_json(records[start : start + num_steps]), "texts": {}, "status": status}
            for start in progress(range(0, max(1, len(records)), num_steps), "Packing the steps")
        ]
        made[0] |= {"snapshot": snapshot_to_json(base), "texts": self._texts(tokens_in(records, base))}
        return made

    def _texts(self, tokens: set[int]) -> dict[int, str]:
        return {} if self.token_text is None else {token: self.token_text(token) for token in sorted(tokens)}

    def _drop_oldest(self) -> None:
        with self._lock:
            slot = self._slot(self.first_step)
            oldest = self._ring[slot]
            if oldest is not None:
                self._base.apply(oldest)
            self._ring[slot] = None
            self.num_bytes -= self._sizes[slot]
            self._keyframes.drop(self.first_step - 1)
            self.first_step += 1

    def _slot(self, step: int) -> int:
        return (step - self._origin) % self.capacity
