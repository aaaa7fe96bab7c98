"""The machine's limits, measured for a page: in a thread of its own, while the engine goes on."""

import threading
import weakref
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.engine.client import EngineClient


class LimitsJob:
    """Begins at once; what it finds becomes the engine's `limits`, as llm.roofline() uses them.

    It refers to the engine weakly and ends with it. A matmul or a copy of some milliseconds is finished first.
    """

    def __init__(self, client: EngineClient) -> None:
        self._client = weakref.ref(client)
        self._runner = client.loop.core.runner
        self._stopping = False
        self._done, self._total = 0, 0
        self._state = "running"
        self._message: str | None = None
        threading.Thread(target=self._run, name="workbench-limits", daemon=True).start()

    @property
    def running(self) -> bool:
        """False once it is done, stopped or failed."""
        return self._state == "running"

    def progress(self) -> dict[str, Any]:
        """For views: rounds done of how many; message: why there is no result."""
        return {"state": self._state, "done": self._done, "total": self._total, "message": self._message}

    def stop(self) -> None:
        """End without a result. Returns at once."""
        self._stopping = True

    def _run(self) -> None:
        try:
            found = self._runner.measure_limits(self._count)
        except _Stopped:
            self._state = "stopped"
        except Exception as error:
            self._message = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
            self._state = "failed"
        else:
            client = self._client()
            if client is not None:
                client.limits = found
                client.loop.core.hooks.emit_rest()  # pictures of the kernels view draw them
            self._state = "done"
        del self._runner

    def _count(self, done: int, total: int) -> None:
        client = self._client()
        if self._stopping or client is None or client.loop.status().state == "closed":
            raise _Stopped
        self._done, self._total = done, total


class _Stopped(Exception):
    """Nobody waits for the result any more."""
