"""A run as a sequence of StepRecords in a bounded ring, and the state after any of them."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

from workbench.core.errors import WorkbenchError
from workbench.core.records import Snapshot, StepRecord
from workbench.trace.replay import Replay

KEYFRAME_STEPS = 256
MAX_KEYFRAMES = 64


class TraceRangeError(WorkbenchError, IndexError):
    """A step that the trace does not hold: not yet made, or dropped to stay within its bound."""


class Trace:
    """At most `capacity` records. When full, the oldest is dropped, counted, and folded into the base state.

    One thread appends; any thread may read at the same time. Appending costs one list store and, once the ring is
    full, one replayed record. Snapshots are made only when asked for; a few are kept, so that stepping about is cheap.
    """

    def __init__(self, start: Snapshot, capacity: int) -> None:
        self.capacity = capacity
        self.num_dropped = 0
        self._base = Replay(start)
        self._ring: list[StepRecord | None] = []
        self._origin = start.step + 1
        self._end = self._origin
        self._lock = threading.Lock()
        self._keyframes: OrderedDict[int, Snapshot] = OrderedDict()

    def append(self, record: StepRecord) -> None:
        """Add the next record; steps must follow one another without a gap."""
        if record.step != self._end:
            raise WorkbenchError(f"record of step {record.step} where step {self._end} is due")
        if len(self._ring) < self.capacity:
            self._ring.append(record)
        else:
            slot = self._slot(record.step)
            with self._lock:
                oldest = self._ring[slot]
                if oldest is not None:
                    self._base.apply(oldest)
                self._ring[slot] = record
                self.num_dropped += 1
                self._end = record.step + 1
            return
        self._end = record.step + 1

    def __len__(self) -> int:
        return self._end - self.first_step

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self.records())

    def __repr__(self) -> str:
        if not len(self):
            return "Trace(no steps yet)"
        dropped = f", {self.num_dropped} older ones dropped" if self.num_dropped else ""
        return f"Trace(steps {self.first_step} to {self.last_step}{dropped})"

    @property
    def first_step(self) -> int:
        """The oldest step that is held."""
        return self._origin + self.num_dropped

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
            "trace_steps keeps more"
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
            near = max((s for s in self._keyframes if self._base.step <= s <= target), default=None)
            replay = Replay(self._base.snapshot() if near is None else self._keyframes[near])
            spacing = max(KEYFRAME_STEPS, len(self) // (MAX_KEYFRAMES // 2))
            while replay.step < target:
                record = self._ring[self._slot(replay.step + 1)]
                if record is None:
                    raise TraceRangeError(f"step {replay.step + 1} is not in the trace")
                replay.apply(record)
                if replay.step % spacing == 0:
                    self._keep(replay.snapshot())
            snapshot = replay.snapshot()
            self._keep(snapshot)
            return snapshot

    def _keep(self, snapshot: Snapshot) -> None:
        self._keyframes[snapshot.step] = snapshot
        self._keyframes.move_to_end(snapshot.step)
        while len(self._keyframes) > MAX_KEYFRAMES:
            self._keyframes.popitem(last=False)

    def _slot(self, step: int) -> int:
        return (step - self._origin) % self.capacity
