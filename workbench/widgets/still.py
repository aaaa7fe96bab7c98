"""The picture that stays in a saved notebook under a view.

A view needs a kernel and a page that runs its code; a notebook on a code host, exported to HTML or opened without a
kernel has neither. So each displayed view is followed by an output that holds a picture and its numbers as plain HTML.
A page where the view is alive hides it. The output is written again at the end of each cell after which the engine
stands elsewhere, and soon after the engine comes to rest outside a cell, as after a press of a button in a view.

A page that was reloaded has forgotten which output a display id belongs to. So the picture carries its id and how
often it was drawn: the JupyterLab extension finds the output by the id, writes it, and asks for a picture that was
drawn while the page was away (extension/src/lab/stills.ts).
"""

import html
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from IPython import get_ipython
from IPython.display import publish_display_data

from workbench.trace import Trace

# The page's code hides what carries this class while a view of the same engine is alive.
STILL_CLASS = "iw-still"

# What the picture would show, to tell whether it is another one, and what draws it; None where there is nothing.
Draw = Callable[[], tuple[object, Callable[[], str]] | None]

# Between the engine's coming to rest and the picture of it: presses in a row make one picture.
SETTLE_SECONDS = 0.5
# Pictures of a long run take their time; drawing them outside cells takes at most such a share of it.
MOST_OF_THE_TIME = 1 / 20


def embedded(trace: Trace, view: str) -> str:
    """The page that replays a trace, in a frame of its own, so that it works inside an exported notebook."""
    page = html.escape(trace.page(view))
    height = 1500 if view == "dashboard" else 600
    return (
        f'<iframe title="Replay of the trace, {html.escape(view)}" loading="lazy" srcdoc="{page}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class Still:
    """One such output."""

    def __init__(self, engine_id: str, draw: Draw) -> None:
        self._engine_id = engine_id
        self._draw = draw
        self.id = f"workbench-{uuid.uuid4().hex[:12]}"
        self._edition = 0
        self._shown: object = None
        self._in_cell = False
        self._timer: threading.Timer | None = None
        self._draw_seconds = 0.0
        self._lock = threading.Lock()

    def show(self) -> None:
        """Put the output under the cell and keep it up to date; outside IPython nothing happens."""
        shell = get_ipython()
        if shell is None or not self._publish(update=False):
            return
        self._in_cell = True
        own = weakref.ref(self)

        def begin(*_: Any) -> None:
            still = own()
            if still is None:
                shell.events.unregister("pre_run_cell", begin)
            else:
                still._in_cell = True

        def end(*_: Any) -> None:
            still = own()
            if still is None:
                shell.events.unregister("post_run_cell", end)
            else:
                still._in_cell = False
                still._publish(update=True)

        shell.events.register("pre_run_cell", begin)
        shell.events.register("post_run_cell", end)

    def touch(self) -> None:
        """The state may be another one now: write it soon, unless a cell is running, at whose end it is written.

        Never waits, as the engine's thread calls it.
        """
        if self._in_cell or self._timer is not None:
            return
        self._timer = threading.Timer(max(SETTLE_SECONDS, self._draw_seconds / MOST_OF_THE_TIME), self._settle)
        self._timer.name, self._timer.daemon = "workbench-still", True
        self._timer.start()

    def renew(self, edition: str) -> None:
        """A page has this edition of the picture: if it is not the newest, have the newest published again."""
        if edition != str(self._edition):
            self._shown = None
            self.touch()

    def _settle(self) -> None:
        self._timer = None  # before the state is read, so that nothing that comes after it goes unseen
        if not self._in_cell:
            self._publish(update=True)

    def _publish(self, update: bool) -> bool:
        with self._lock:
            found = self._draw()
            if found is None:
                return False
            key, draw = found
            if key != self._shown:
                began = time.perf_counter()
                content = draw()
                self._draw_seconds = time.perf_counter() - began
                self._shown = key
                self._edition += 1
                engine = html.escape(self._engine_id)
                marks = f'data-engine="{engine}" data-still="{self.id}" data-edition="{self._edition}"'
                page = f'<div class="{STILL_CLASS}" {marks}>{content}</div>'
                data = {"text/html": page, "text/plain": "a picture of the view above"}
                publish_display_data(data, transient={"display_id": self.id}, update=update)  # type: ignore[no-untyped-call]
            return True
