"""Functions called as the engine runs. Nobody registered: nothing is called and nothing is built."""

import logging
from collections.abc import Callable

from workbench.core.records import StepRecord

StepHook = Callable[[StepRecord], None]
RestHook = Callable[[], None]

logger = logging.getLogger("workbench")


class Hooks:
    """Registered functions. They run on the engine's thread, so they should be quick and must not wait for it.

    A hook that raises is reported once and removed; the engine goes on.
    """

    def __init__(self) -> None:
        self._on_step: tuple[StepHook, ...] = ()
        self._on_rest: tuple[RestHook, ...] = ()

    def on_step(self, fn: StepHook) -> Callable[[], None]:
        """Call fn(record) after every step; returns a function that takes it off again."""
        self._on_step = (*self._on_step, fn)

        def remove() -> None:
            self._on_step = tuple(f for f in self._on_step if f is not fn)

        return remove

    def on_rest(self, fn: RestHook) -> Callable[[], None]:
        """Call fn() whenever the engine has made steps and then stands still, idle or paused, and whenever a job
        for a view has ended; returns a function that takes it off again."""
        self._on_rest = (*self._on_rest, fn)

        def remove() -> None:
            self._on_rest = tuple(f for f in self._on_rest if f is not fn)

        return remove

    def emit_step(self, record: StepRecord) -> None:
        """Call the hooks in the order in which they were registered."""
        for fn in self._on_step:
            try:
                fn(record)
            except Exception:
                logger.exception("on_step hook %r raised at step %d and was removed", fn, record.step)
                self._on_step = tuple(f for f in self._on_step if f is not fn)

    def emit_rest(self) -> None:
        """Call the hooks that wait for the engine to stand still."""
        for fn in self._on_rest:
            try:
                fn()
            except Exception:
                logger.exception("on_rest hook %r raised and was removed", fn)
                self._on_rest = tuple(f for f in self._on_rest if f is not fn)
