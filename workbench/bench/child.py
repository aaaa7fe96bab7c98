"""A process of a peer's that the bench starts and stops."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO

from tqdm import tqdm

from workbench.core.errors import ConfigError

START_SECONDS = 900.0  # vLLM compiles the model when it sees it for the first time
STOP_SECONDS = 10.0
LAST_LINES = 12


class Child:
    """Runs a command in a process group of its own, so that what it starts ends with it. talks: standard input and
    output are ours to use; otherwise output goes to the log, as standard error always does.

    Raises ConfigError if it cannot be started.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], talks: bool = False) -> None:
        self.name = name
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        pipe = subprocess.PIPE if talks else None
        try:
            self.process = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or self._log,
                stderr=self._log,
                env={**os.environ, **env},
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            self._log.close()
            raise ConfigError(f"{name} could not be started: {error}") from error

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Ask until it is ready. Raises ConfigError with its last lines if it ends or takes START_SECONDS."""
        began = time.monotonic()
        with tqdm(desc=f"starting {self.name}", bar_format="{desc}: {elapsed}", delay=1.0, leave=False) as bar:
            while not ready():
                if self.process.poll() is not None:
                    raise self.failed("ended while it started")
                if time.monotonic() - began > START_SECONDS:
                    raise self.failed(f"was not ready after {START_SECONDS:,.0f} s")
                time.sleep(0.2)
                bar.update()

    def failed(self, what: str) -> ConfigError:
        """The error to raise, with the last lines of its log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        status = self.process.poll()
        ended = "" if status is None else f" (exit status {status})"
        return ConfigError("\n  ".join([f"{self.name} {what}{ended}; it last wrote:", *(lines or ["nothing"])]))

    def close(self) -> None:
        """Ask it and its children to end, and make them."""
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
            if self.process.poll() is not None:
                break
            os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with suppress(ProcessLookupError):  # what it left behind
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):  # a line that it did not take any more
                if pipe is not None:
                    pipe.close()
        self._log.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end this process the way Ctrl-C does, so that what it started ends with it."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
