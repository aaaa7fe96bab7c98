"""What if, asked from a page: a simulation in a thread of its own, then a comparison with the run as it was."""

import copy
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from workbench.core.errors import ConfigError, WorkbenchError
from workbench.core.policy import Policy
from workbench.sim import Workload
from workbench.simulate import Simulation, compare, simulate
from workbench.trace import Trace

TELL_SECONDS = 0.2  # between two calls of on_progress


class WhatIfStopped(WorkbenchError):
    """A simulation was ended before it had a result."""


class WhatIfJob:
    """Begins at once. `future` gives the comparison as plain values (Comparison.to_json).

    Without a workload the trace's own arrivals run under other settings and are compared with what was recorded. With
    one, it is simulated twice: under the trace's settings and under the changed ones.

    policy: the reader's own one that is in force, where the trace only tells its name. gone: asked again and again;
    when it returns True nobody waits for the result any more, and the simulation ends. on_progress: called on the job's
    thread now and then, and once when all is done.
    """

    def __init__(
        self,
        trace: Trace,
        settings: Mapping[str, Any],
        workload: Workload | None = None,
        *,
        policy: Policy | None = None,
        gone: Callable[[], bool] = lambda: False,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.future: Future[dict[str, Any]] = Future()
        self._trace = trace.copy()  # the run goes on meanwhile
        self._present: dict[str, Policy] = {}
        if policy is not None and (workload is not None or "scheduling_policy" not in settings):
            self._present["scheduling_policy"] = policy_copy(policy)
        self._settings = {**self._present, **settings}
        self._workload = workload
        self._gone = gone
        self._on_progress = on_progress
        self._told_at = time.monotonic()
        self.html = ""  # of the comparison, once there is one, for pages without a live view
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
        self._on_progress()

    def _compare(self) -> dict[str, Any]:
        first, second = self._runs()
        comparison = compare(first, second)
        self.html = comparison._repr_html_()
        return comparison.to_json()

    def _runs(self) -> tuple[Trace | Simulation, Simulation]:
        if self._workload is None:
            self._total = len(Workload.from_trace(self._trace))
            return self._trace, simulate(self._trace, on_progress=self._count(0), **self._settings)
        size = len(self._workload)
        self._total = 2 * size
        present = {name: policy_copy(policy) for name, policy in self._present.items()}
        first = simulate(self._workload, like=self._trace, on_progress=self._count(0), **present)
        return first, simulate(self._workload, like=self._trace, on_progress=self._count(size), **self._settings)

    def _count(self, before: int) -> Callable[[int], None]:
        def progress(finished: int) -> None:
            if self._stopping:
                raise WhatIfStopped("the simulation was stopped")
            if self._gone():
                raise WhatIfStopped("the simulation was stopped, as its engine or its view is gone")
            self._done = before + finished
            if time.monotonic() - self._told_at >= TELL_SECONDS:
                self._told_at = time.monotonic()
                self._on_progress()

        return progress


def policy_copy(policy: Policy) -> Policy:
    """A policy of its own for a simulation, so that what it remembers is not mixed with the running engine's."""
    try:
        return copy.deepcopy(policy)
    except Exception as error:
        raise ConfigError(
            f"policy {policy.name!r} cannot be copied for a simulation ({type(error).__name__}: {error}); choose "
            "another policy to simulate with"
        ) from error
