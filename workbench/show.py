"""show(): any engine or trace in any view."""

from typing import TYPE_CHECKING

from workbench.llm import LLM
from workbench.trace import Trace

if TYPE_CHECKING:
    from workbench.widgets.engine_widget import EngineWidget
    from workbench.widgets.trace_widget import TraceWidget


def show(
    what: LLM | Trace, view: str = "dashboard", height: int = 0, *, embed_trace: bool = False
) -> "EngineWidget | TraceWidget":
    """A view of a running engine or of a trace, live or loaded. height in pixels, 0 for the view's own; embed_trace
    as for LLM.dashboard."""
    if isinstance(what, LLM):
        return what.view(view, height, embed_trace=embed_trace)
    from workbench.widgets.trace_widget import TraceWidget  # ipywidgets is only needed where there is a page

    return TraceWidget(what, view, height, embed_trace=embed_trace)
