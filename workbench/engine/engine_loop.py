"""The engine's thread: applies commands between steps and steps while there is work.

Nothing else touches engine state. Commands come through one queue, from any thread, so the loop needs no locks, and a
cell interrupt, which only ever reaches the main thread, cannot stop it in the middle of a step.
"""

import contextvars
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, TypeVar

from workbench.core.errors import ConfigError, EngineClosedError
from workbench.core.records import StepRecord
from workbench.engine.breakpoints import Breakpoint
from workbench.engine.change import Change
from workbench.engine.engine_core import EngineCore

T = TypeVar("T")

SHUTDOWN_SECONDS = 10.0

logger = logging.getLogger("workbench")


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """What the engine is doing. state: "running", "idle", "paused", "closed" or "error".

    step: the newest recorded step (-1: none). time: seconds on the engine's clock. speed: steps per second at most
    (None: no limit). message: why the state is "error". stopped_by: the breakpoint that paused it, and what happened.
    """

    state: str
    step: int
    time: float
    speed: float | None
    num_running: int
    num_waiting: int
    message: str | None
    stopped_by: str | None


class EngineLoop:
    """Owns the thread. `post` and `call` are safe from any thread; everything else runs inside."""

    def __init__(self, core: EngineCore) -> None:
        self.core = core
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._paused = False
        self._steps_left = 0
        self._step_waiters: list[tuple[list[StepRecord], int, Future[list[StepRecord]]]] = []
        self._speed: float | None = None
        self._next_step_at = 0.0
        self._closing = False
        self._closed = False
        self._message: str | None = None
        self._breakpoints: tuple[Breakpoint, ...] = ()
        self._stopped_by: str | None = None
        self._rested_at = core.trace.last_step
        self._lock = threading.Lock()
        # Prints of hooks go where the engine was made: a thread started without its context loses its cell.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="workbench-engine", daemon=True)
        self._thread.start()

    def post(self, command: Callable[[], None]) -> None:
        """Have a command applied before the next step. Raises EngineClosedError after a shutdown."""
        with self._lock:
            if self._closing:
                raise EngineClosedError("the engine was shut down; make a new LLM()")
            self._commands.put(command)

    def call(self, command: Callable[[], T]) -> T:
        """Have a command applied before the next step and wait for what it returns or raises."""
        return self.submit(command).result()

    def submit(self, command: Callable[[], T]) -> "Future[T]":
        """As `call`, without waiting."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(command())
            except Exception as error:
                future.set_exception(error)

        self.post(run)
        return future

    def pause(self) -> None:
        """Stop before the next step. Requests still arrive and can be cancelled."""
        self.call(self.pause_now)

    def resume(self) -> None:
        """Go on stepping."""
        self.call(self.resume_now)

    def step(self, n: int = 1) -> "Future[list[StepRecord]]":
        """Pause, then do n steps, or fewer if the work runs out; the future gives their records."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ConfigError(f"the number of steps must be a whole number of at least 1, not {n!r}")
        done: Future[list[StepRecord]] = Future()

        def begin() -> None:
            self.pause_now()
            if not self.core.has_work():
                done.set_result([])
                return
            self._steps_left += n
            self._step_waiters.append(([], n, done))

        self.post(begin)
        return done

    def set_speed(self, steps_per_second: float | None) -> None:
        """Do at most that many steps a second; None lifts the limit."""
        self.call(self.speed_change(steps_per_second))

    def speed_change(self, steps_per_second: float | None) -> Callable[[], None]:
        """The command behind set_speed, checked, for those who post it without waiting."""
        speed = steps_per_second
        if speed is not None and (isinstance(speed, bool) or not isinstance(speed, (int, float)) or not speed > 0):
            raise ConfigError(f"speed is a number of steps a second above 0, or None for no limit, not {speed!r}")

        def change() -> None:
            self._speed = speed
            self._next_step_at = 0.0

        return change

    def add_breakpoint(self, point: Breakpoint) -> None:
        """Pause after the first step for which it says something."""
        self.call(lambda: self.add_breakpoint_now(point))

    def add_breakpoint_now(self, point: Breakpoint) -> None:
        """The command behind add_breakpoint; runs on the engine's thread."""
        self._breakpoints = (*self._breakpoints, point)

    def remove_breakpoints(self, point: Breakpoint | None = None) -> None:
        """Take one off, or all."""
        self.call(lambda: self.clear_breakpoints_now(point))

    def clear_breakpoints_now(self, point: Breakpoint | None = None) -> None:
        """The command behind remove_breakpoints; runs on the engine's thread."""
        self._breakpoints = tuple(p for p in self._breakpoints if point is not None and p is not point)

    @property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        """Those that are set."""
        return self._breakpoints

    def configure(self, changes: dict[str, Any]) -> Change:
        """Turn knobs; see EngineCore.configure."""
        return self.call(lambda: self.core.configure(changes))

    def status(self) -> LoopStatus:
        """The state at this moment; never waits."""
        scheduler = self.core.scheduler
        if self._closed or self._closing:
            state = "closed"
        elif self._message is not None:
            state = "error"
        elif self._paused:
            state = "paused"
        else:
            state = "running" if scheduler.has_unfinished() else "idle"
        return LoopStatus(
            state=state,
            step=self.core.trace.last_step,
            time=self.core.now(),
            speed=self._speed,
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            message=self._message,
            stopped_by=self._stopped_by,
        )

    def shutdown(self) -> None:
        """Finish the step in progress, end the thread and free everything. Waiting results raise EngineClosedError."""
        with self._lock:
            if not self._closing:
                self._closing = True
                self._commands.put(lambda: None)
        if self._thread is not threading.current_thread():
            self._thread.join(SHUTDOWN_SECONDS)

    def pause_now(self) -> None:
        """The command behind pause; runs on the engine's thread."""
        self._paused = True

    def resume_now(self) -> None:
        """The command behind resume; runs on the engine's thread."""
        self._paused = False
        self._stopped_by = None
        self._end_step_waiters()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._apply_commands()
                if not self._closing:
                    self._advance()
        finally:
            self._closed = True
            self._end_step_waiters()
            self._apply_commands()
            self.core.close()

    def _apply_commands(self) -> None:
        """Apply what is queued; wait for a command if there is nothing else to do."""
        timeout = self._wait_seconds()
        if timeout is None and self.core.trace.last_step != self._rested_at:
            self._rested_at = self.core.trace.last_step
            self.core.hooks.emit_rest()
        try:
            command = self._commands.get(block=timeout != 0.0, timeout=timeout)
            while True:
                self._apply(command)
                command = self._commands.get_nowait()
        except Empty:
            pass

    def _apply(self, command: Callable[[], None]) -> None:
        try:
            command()
        except Exception:
            logger.exception("a command failed; the engine goes on")

    def _wait_seconds(self) -> float | None:
        """How long a command may be waited for: 0 if a step is due, None if only a command can change anything."""
        if self._closing:
            return 0.0
        if self.core.has_news() and (self._paused or not self.core.has_work()):
            return 0.0
        if not self._may_step():
            return None
        return max(0.0, self._next_step_at - monotonic())

    def _may_step(self) -> bool:
        return self.core.has_work() and (not self._paused or self._steps_left > 0)

    def _advance(self) -> None:
        try:
            if self._may_step():
                now = monotonic()
                if now < self._next_step_at:
                    return
                if self._speed is not None:
                    self._next_step_at = now + 1.0 / self._speed
                self._stopped_by = None
                record = self.core.step()
                self._count(record)
                self._message = None
                if self._breakpoints:
                    self._check_breakpoints(record)
            elif self.core.has_news():
                self.core.note()
        except Exception as error:
            # A bug in the scheduler or the bookkeeping: every request is ended with the reason, and the loop lives.
            logger.exception("the engine's step failed")
            self._message = f"{type(error).__name__}: {error}"
            self._end_step_waiters()
            self.core.abort_all()

    def _check_breakpoints(self, record: StepRecord) -> None:
        for point in self._breakpoints:
            try:
                text = point.check(record)
            except Exception:
                logger.exception("breakpoint %r raised at step %d and was removed", point.name, record.step)
                self._breakpoints = tuple(p for p in self._breakpoints if p is not point)
                continue
            if text is not None:
                self.pause_now()
                self._stopped_by = f"{point.name}: {text}"
                self._end_step_waiters()
                return

    def _count(self, record: StepRecord) -> None:
        """Charge a step to those who asked for single steps."""
        if self._steps_left == 0:
            return
        self._steps_left -= 1
        if self._step_waiters:
            records, wanted, done = self._step_waiters[0]
            records.append(record)
            if len(records) == wanted:
                self._step_waiters.pop(0)
                done.set_result(records)
        if not self.core.has_work():
            self._end_step_waiters()

    def _end_step_waiters(self) -> None:
        self._steps_left = 0
        waiters, self._step_waiters = self._step_waiters, []
        for records, _, done in waiters:
            done.set_result(records)
