"""One page's stream of an engine's records: a keyframe, then every step since, in at most 20 frames a second.

The page acknowledges frames. One that falls behind (30 frames unacknowledged) gets no more until it catches up, and
one that is silent for long is dropped, so that a closed tab costs nothing. The engine never waits for a page.
"""

import math
import operator
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from workbench.core.policy import POLICIES
from workbench.core.records import Snapshot, StepRecord
from workbench.core.scheduler_output import SampledToken
from workbench.core.settings import resolved_settings
from workbench.engine.client import EngineClient
from workbench.engine.engine_loop import LoopStatus
from workbench.engine.knobs import LIVE_SETTINGS
from workbench.lockstep_job import LockstepJob, lockstep_rows
from workbench.quality.outputs import side_name
from workbench.trace import Trace, TraceRangeError
from workbench.trace.tokens import tokens_in
from workbench.trace.wire import dumps, in_columns, snapshot_to_json

Send = Callable[[dict[str, Any], list[bytes]], None]

FRAME_SECONDS = 0.05
# Above so many steps a second nobody can follow single ones, and frames are made only as often as this share of the
# interpreter allows, which is the engine's too: five times a second, and down to three.
FAST_STEPS_PER_SECOND = 30
FAST_SHARE = 0.003
FAST_FRAME_SECONDS, LONGEST_FRAME_SECONDS = 0.2, 1 / 3
HEARTBEAT_SECONDS = 1.0
JOB_SECONDS = 0.1  # between two frames while the engine idles and something goes on beside it
MAX_UNACKNOWLEDGED = 30
SILENCE_SECONDS = 30.0
# A page whose messages wait for a running cell cannot acknowledge: so few frames and so long a patience bound what is
# kept for a page that is gone in truth.
UNHEARD_FRAME_SECONDS = 0.25
UNHEARD_SECONDS = 600.0
FRAME_STEPS = 250  # most records in a frame: while they are written the engine waits for the interpreter
BACKLOG_STEPS = 5000  # a page that joins late or fell behind starts so many steps back


class Feed:
    """Sends from a thread of its own while a page is subscribed. `send` must be safe to call from any thread.

    `client` is a weak reference: when the engine's owner is gone, the page is told that the engine is closed.
    """

    def __init__(self, client: "weakref.ref[EngineClient]", send: Send) -> None:
        self._client = client
        self._send = send
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._generation = 0  # a thread that finds another number than its own has been replaced and ends
        self._acknowledged = 0
        self._last_heard = 0.0
        self._waits_for_cells = False
        self._frame_seconds = FRAME_SECONDS

    def subscribe(self, updates_per_second: float | None = None) -> None:
        """Begin anew with a keyframe. A page may ask for fewer frames than 20 a second, down to one."""
        with self._lock:
            self._frame_seconds = FRAME_SECONDS if updates_per_second is None else 1.0 / max(1.0, updates_per_second)
            self._generation += 1
            self._acknowledged = 0
            self._hear()
            self._thread = threading.Thread(
                target=self._run, args=(self._generation,), name="workbench-feed", daemon=True
            )
            self._thread.start()

    def unsubscribe(self) -> None:
        """Send nothing more."""
        with self._lock:
            self._generation += 1
        self._wake.set()

    @property
    def ended(self) -> bool:
        """True if a page was sent to and is no longer: it went, or has been silent for long."""
        with self._lock:
            return self._thread is not None and not self._thread.is_alive()

    def acknowledge(self, seq: int) -> None:
        """The page has shown frame `seq`."""
        self._acknowledged = max(self._acknowledged, seq)
        self._hear()
        self._wake.set()

    def _hear(self) -> None:
        """Note when the page was heard, and where: what comes on the main thread comes only between cells."""
        self._last_heard = time.monotonic()
        self._waits_for_cells = threading.current_thread() is threading.main_thread()

    def _run(self, generation: int) -> None:
        page = _Page()
        before, cost = -math.inf, 0.0
        client = self._client()
        remove_hook = client.loop.core.hooks.on_step(self._on_step) if client is not None else None
        try:
            while self._generation == generation:
                client = self._client()
                if client is None:
                    self._send(*page.last_frame())
                    return
                self._wake.clear()
                began = time.monotonic()
                unheard = page.seq - self._acknowledged >= MAX_UNACKNOWLEDGED
                if unheard and began - self._last_heard > (
                    UNHEARD_SECONDS if self._waits_for_cells else SILENCE_SECONDS
                ):
                    return
                if not unheard or self._waits_for_cells:
                    computing = time.thread_time()
                    status = client.loop.status()
                    self._send(*page.next_frame(client, status))
                    if status.state == "closed":
                        return
                    cost = time.thread_time() - computing
                pause = max(frame_seconds(page.num_steps, began - before, cost), self._frame_seconds)
                if unheard:
                    pause = max(pause, UNHEARD_FRAME_SECONDS)
                before = began
                busy = any(job.running for job in client.jobs.values())
                del client  # while this thread sleeps it must not keep an engine alive
                # First asleep, then awaiting a step: woken by every step, it would take the interpreter twice a frame.
                time.sleep(max(0.0, pause - (time.monotonic() - began)))
                if not page.behind(self._client()):
                    self._wake.wait(JOB_SECONDS if busy else HEARTBEAT_SECONDS)
        finally:
            if remove_hook is not None:
                remove_hook()

    def _on_step(self, record: StepRecord) -> None:
        if not self._wake.is_set():
            self._wake.set()


def frame_seconds(num_steps: int, seconds: float, cost: float) -> float:
    """Seconds from a frame to the next: `num_steps` were in it, `seconds` after the one before, at `cost` seconds of
    the interpreter. A full frame means a backlog.

    One step more than there is time for says nothing: steps and frames are not in time with each other.
    """
    if not 1 + FAST_STEPS_PER_SECOND * seconds < num_steps < FRAME_STEPS:
        return FRAME_SECONDS
    return min(max(FAST_FRAME_SECONDS, cost / FAST_SHARE), LONGEST_FRAME_SECONDS)


class _Page:
    """What one page has been sent so far."""

    def __init__(self) -> None:
        self._next_step: int | None = None
        self._texts_sent: set[int] = set()
        self._memory: list[dict[str, Any]] = []
        self._device: dict[str, Any] | None = None
        self._work: dict[str, Any] | None = None
        self._memory_read_at = -HEARTBEAT_SECONDS
        self._last_status: dict[str, Any] = {}
        self._knobs_of: tuple[object, ...] = ()
        self._knobs: dict[str, tuple[Any, Any]] = {}
        self._compared: tuple[str, int] = ("", 0)  # a comparison, and how many of its rows were sent
        self.seq = 0
        self.num_steps = 0  # in the last frame

    def behind(self, client: EngineClient | None) -> bool:
        """True if there are records that it has not been sent, or no engine any more."""
        if client is None:
            return True
        return self._next_step is not None and client.loop.core.trace.last_step >= self._next_step

    def last_frame(self) -> tuple[dict[str, Any], list[bytes]]:
        """What a page is told when the engine is gone."""
        self.seq += 1
        status = {**self._last_status, "state": "closed"}
        return {"type": "frame", "seq": self.seq, "keyframe": False}, [
            dumps({"records": [], "texts": {}, "status": status})
        ]

    def next_frame(self, client: EngineClient, status: LoopStatus) -> tuple[dict[str, Any], list[bytes]]:
        """The records that the page lacks, at most FRAME_STEPS, from a keyframe if it is new or far behind."""
        trace = client.loop.core.trace
        payload: dict[str, Any] = {}
        tokens: set[int] = set()
        base, start, records = self._read(trace)
        if base is not None:
            payload["snapshot"] = snapshot_to_json(base)
            self._texts_sent.clear()
            self._compared = ("", 0)
            tokens = tokens_in((), base)
        self._next_step = records[-1].step + 1 if records else start
        self.num_steps = len(records)
        payload["records"] = in_columns(records)
        tokens |= tokens_in(records)
        tokens |= self._add_compared(client, payload)
        payload["texts"] = self._texts(client, tokens)
        payload["status"] = self._last_status = self._status(client, status)
        self.seq += 1
        return {"type": "frame", "seq": self.seq, "keyframe": base is not None}, [dumps(payload)]

    def _read(self, trace: Trace) -> tuple[Snapshot | None, int, list[StepRecord]]:
        """The state to start from, if the page needs one, the next step, and records from there on without a gap.

        The engine goes on meanwhile and may drop what is asked for here: then it is asked for anew.
        """
        while True:
            base, start = None, self._next_step
            if start is None or start < trace.first_step or trace.last_step - start > BACKLOG_STEPS:
                # A little after the oldest step, which is the next to be dropped.
                oldest = trace.first_step - 1 + (len(trace) // 8 if trace.num_dropped else 0)
                try:
                    base = trace.at(max(oldest, trace.last_step - BACKLOG_STEPS))
                except TraceRangeError:
                    continue
                start = base.step + 1
            records = trace.records(start, start + FRAME_STEPS)
            if not records or records[0].step == start:
                return base, start, records

    def _add_compared(self, client: EngineClient, payload: dict[str, Any]) -> set[int]:
        """Put what is new of the engine's newest comparison into the payload; returns the tokens in it."""
        job = client.jobs.get("lockstep")
        if not isinstance(job, LockstepJob) or job.head is None:
            return set()
        run, sent = self._compared
        start = sent if run == job.run else 0
        rows = job.rows[start:]
        if run == job.run and not rows:
            return set()
        payload["lockstep"] = {"run": job.run, "start": start, "rows": lockstep_rows(rows)}
        if start == 0:
            payload["lockstep"]["head"] = job.head
        self._compared = (job.run, start + len(rows))
        sides = [side for row in rows for side in row[1:] if isinstance(side, SampledToken)]
        return {side.token_id for side in sides} | {token for side in sides for token, _ in side.alternatives}

    def _texts(self, client: EngineClient, tokens: set[int]) -> dict[int, str]:
        token_text = client.loop.core.trace.token_text
        if token_text is None:
            return {}
        new = tokens - self._texts_sent
        self._texts_sent |= new
        return {token: token_text(token) for token in sorted(new)}

    def _status(self, client: EngineClient, status: LoopStatus) -> dict[str, Any]:
        core = client.loop.core
        config = core.scheduler.config
        if status.time - self._memory_read_at >= HEARTBEAT_SECONDS and status.state != "closed":
            self._memory_read_at = status.time
            reading = core.runner.device()
            self._device = reading._asdict()
            self._memory = [row._asdict() for row in core.memory(reading)]
            work = core.runner.work()
            self._work = None if work is None else work._asdict()
        return {
            "state": status.state,
            "paused_at": status.step if status.state == "paused" else None,
            "speed": status.speed,
            "step": status.step,
            "time": status.time,
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "scheduling_policy": core.scheduler.policy.name,
            "policies": [*POLICIES, *core.own_policies],
            "knobs": self._knobs_now(client),
            "num_running": status.num_running,
            "num_waiting": status.num_waiting,
            "memory": self._memory,
            "device": self._device,
            "work": self._work,
            "limits": None if client.limits is None else client.limits._asdict(),
            "dropped_steps": core.trace.num_dropped,
            "message": status.message or status.stopped_by,
            "breakpoints": [point.name for point in client.loop.breakpoints],
            "others": [[other.engine_id, other_label(other)] for other in client.others],
            "jobs": {name: job.progress() for name, job in client.jobs.items()},
        }

    def _knobs_now(self, client: EngineClient) -> dict[str, tuple[Any, Any]]:
        """The knobs, put together again where one was turned: settings are frozen, and a turn makes them anew."""
        core = client.loop.core
        made_of = (core.args, core.runner.spec, core.scheduler.config, core.scheduler.policy)
        if len(self._knobs_of) != len(made_of) or any(map(operator.is_not, self._knobs_of, made_of)):
            self._knobs_of, self._knobs = made_of, knobs(client)
        return self._knobs


def other_label(client: EngineClient) -> str:
    """An engine to compare with, in a few words."""
    core = client.loop.core
    return f"{core.runner.spec.name} in {side_name(core.runner.spec, core.args.kv_cache_dtype)}"


def knobs(client: EngineClient) -> dict[str, tuple[Any, Any]]:
    """The settings that can be changed now: name -> what was asked for, what is in force."""
    core = client.loop.core
    settings = resolved_settings(core.args, core.runner.spec, core.scheduler.config, core.scheduler.policy.name)
    return {name: tuple(settings[name]) for name in LIVE_SETTINGS}
