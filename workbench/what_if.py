"""What if, asked from a page: a simulation in a thread of its own, then a comparison with the run as it was."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.sim import Workload
from workbench.simulate import compare, simulate
from workbench.trace import Trace


class WhatIfStopped(WorkbenchError):
    """The reader stopped a simulation."""


class WhatIfJob:
    """Begins at once. `future` gives the comparison as plain values (Comparison.to_json).

    Without a workload the trace's own arrivals run under other settings and are compared with what was recorded. With
    one, it is simulated twice: under the trace's settings and under the changed ones.
    """

    def __init__(self, trace: Trace, settings: Mapping[str, Any], workload: Workload | None = None) -> None:
        self.future: Future[dict[str, Any]] = Future()
        self._trace = trace.copy()  # the run goes on meanwhile
        self._settings = dict(settings)
        self._workload = workload
        self._stopping = False
        self._done, self._total = 0, 0
        threading.Thread(target=self._run, name="workbench-what-if", daemon=True).start()

    @property
    def running(self) -> bool:
        """False once there is a result or an error."""
        return not self.future.done()

    def progress(self) -> dict[str, Any]:
        """For views: requests that the simulation has finished, of how many."""
        return {"state": "running" if self.running else "done", "finished": self._done, "total": self._total}

    def stop(self) -> None:
        """End without a result. Returns at once."""
        self._stopping = True

    def _run(self) -> None:
        try:
            self.future.set_result(self._compare())
        except Exception as error:
            self.future.set_exception(error)

    def _compare(self) -> dict[str, Any]:
        if self._workload is None:
            self._total = len(Workload.from_trace(self._trace))
            second = simulate(self._trace, on_progress=self._count(0), **self._settings)
            return compare(self._trace, second).to_json()
        size = len(self._workload)
        self._total = 2 * size
        first = simulate(self._workload, like=self._trace, on_progress=self._count(0))
        second = simulate(self._workload, like=self._trace, on_progress=self._count(size), **self._settings)
        return compare(first, second).to_json()

    def _count(self, before: int) -> Callable[[int], None]:
        def progress(finished: int) -> None:
            if self._stopping:
                raise WhatIfStopped("the simulation was stopped")
            self._done = before + finished

        return progress
