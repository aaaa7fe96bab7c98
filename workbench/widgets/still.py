"""The picture that stays in a saved notebook under a view.

A view needs a kernel and a page that runs its code; a notebook on a code host, exported to HTML or opened without a
kernel has neither. So each displayed view is followed by an output that holds a picture and its numbers as plain HTML.
A page where the view is alive hides it; the output is written again at the end of each cell after which the engine
stands elsewhere, and so what is saved is the state after the last cell that ran. Steps that the engine makes later,
at a press of a button say, are not in it.
"""

import html
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from IPython import get_ipython
from IPython.display import publish_display_data

from workbench.trace import Trace

# The page's code hides what carries this class while a view of the same engine is alive.
STILL_CLASS = "iw-still"

Draw = Callable[[], tuple[object, str] | None]


def embedded(trace: Trace, view: str) -> str:
    """The page that replays a trace, in a frame of its own, so that it works inside an exported notebook."""
    page = html.escape(trace.page(view))
    height = 1500 if view == "dashboard" else 600
    return (
        f'<iframe title="Replay of the trace, {html.escape(view)}" loading="lazy" srcdoc="{page}" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )


class Still:
    """One such output. `draw` gives a key of the state and its HTML, or None when there is nothing to draw from."""

    def __init__(self, engine_id: str, draw: Draw) -> None:
        self._engine_id = engine_id
        self._draw = draw
        self._display_id = f"workbench-{uuid.uuid4().hex[:12]}"
        self._shown: object = None

    def show(self) -> None:
        """Put the output under the cell and keep it up to date; outside IPython nothing happens."""
        shell = get_ipython()
        if shell is None or not self._publish(update=False):
            return
        own = weakref.ref(self)

        def refresh(*_: Any) -> None:
            still = own()
            if still is None:
                shell.events.unregister("post_run_cell", refresh)
            else:
                still._publish(update=True)

        shell.events.register("post_run_cell", refresh)

    def _publish(self, update: bool) -> bool:
        drawn = self._draw()
        if drawn is None:
            return False
        key, content = drawn
        if key != self._shown:
            self._shown = key
            page = f'<div class="{STILL_CLASS}" data-engine="{html.escape(self._engine_id)}">{content}</div>'
            data = {"text/html": page, "text/plain": "a picture of the view above"}
            publish_display_data(data, transient={"display_id": self._display_id}, update=update)  # type: ignore[no-untyped-call]
        return True
