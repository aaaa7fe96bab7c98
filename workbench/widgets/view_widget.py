"""What the views of an engine and of a saved trace have in common: the page's code, and a comm that never waits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import publish_display_data

from workbench.core.errors import ConfigError
from workbench.trace import Trace
from workbench.trace.picture import picture
from workbench.trace.roofline_picture import Machine
from workbench.widgets.lab_pages import keep_for_pages
from workbench.widgets.still import Still, embedded
from workbench.widgets.subshell import mend_comm

VIEWS = (
    "dashboard",
    "blocks",
    "timeline",
    "requests",
    "memory",
    "latency",
    "kernels",
    "playground",
    "controls",
    "knobs",
    "traffic",
    "what_if",
)

BUNDLE = Path(__file__).parent / "static" / "workbench.js"


class ViewWidget(anywidget.AnyWidget):
    """One view on a page. Subclasses take its messages in `receive`, which comes on a thread of the kernel's."""

    _esm = BUNDLE
    views: tuple[str, ...] = VIEWS

    view = traitlets.Unicode("dashboard").tag(sync=True)
    engine_id = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, engine_id: str, view: str, height: int, embed_trace: bool = False) -> None:
        if view not in self.views:
            raise ConfigError(f"view must be one of {', '.join(self.views)}, not {view!r}")
        super().__init__(view=view, engine_id=engine_id, height=height)
        if self.comm is not None:
            mend_comm(self.comm)
        self._embed_trace = embed_trace
        self._stills: list[Still] = []
        self.on_msg(lambda _, content, buffers: self.receive(content))

    def trace(self) -> Trace | None:
        """The trace that is shown; None when its engine is gone."""
        raise NotImplementedError

    def _ipython_display_(self, **_: Any) -> None:
        """Show the view, and under it the picture that stays in the saved notebook."""
        bundle = self._repr_mimebundle_()
        if bundle is None:
            return
        data, metadata = bundle
        publish_display_data(data, metadata)  # type: ignore[no-untyped-call]
        still = Still(self.engine_id, self._draw_still)
        still.show()
        self._stills.append(still)
        keep_for_pages(still)

    def _draw_still(self) -> tuple[object, Callable[[], str]] | None:
        trace = self.trace()
        if trace is None:
            return None
        if self._embed_trace:
            return trace.last_step, lambda: embedded(trace, self.view)
        answer = self.answer()
        machine = self.machine() if self.view == "kernels" else None
        key = (trace.last_step, answer, machine, self.stands())
        return key, lambda: answer or picture(trace, self.view, machine).to_html(self.more())

    def touch_stills(self) -> None:
        """What the pictures show may have changed without a cell."""
        for still in self._stills:
            still.touch()

    def answer(self) -> str:
        """The HTML of what this view was asked last, as what-if is; "" where nothing has been answered."""
        raise NotImplementedError

    def stands(self) -> object:
        """What else the picture depends on beside the steps; equal as long as the picture would be the same."""
        return None

    def more(self) -> str:
        """The HTML of what only an engine can tell of this view; "" where there is nothing."""
        return ""

    def machine(self) -> Machine | None:
        """The model's sizes and the machine's limits; None where there is no engine, or one without a model."""
        raise NotImplementedError

    def receive(self, content: Any) -> None:
        """Take a message from a page (extension/PROTOCOL.md)."""
        raise NotImplementedError
