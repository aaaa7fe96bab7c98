"""What the views of an engine and of a saved trace have in common: the page's code, and a comm that never waits."""

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.core.errors import ConfigError
from workbench.widgets.subshell import mend_comm

VIEWS = ("dashboard", "blocks", "timeline", "requests", "memory", "latency", "playground", "controls")

BUNDLE = Path(__file__).parent / "static" / "workbench.js"


class ViewWidget(anywidget.AnyWidget):
    """One view on a page. Subclasses take its messages in `receive`, which comes on a thread of the kernel's."""

    _esm = BUNDLE

    view = traitlets.Unicode("dashboard").tag(sync=True)
    engine_id = traitlets.Unicode().tag(sync=True)
    height = traitlets.Int(0, min=0).tag(sync=True)

    def __init__(self, engine_id: str, view: str, height: int) -> None:
        if view not in VIEWS:
            raise ConfigError(f"view must be one of {', '.join(VIEWS)}, not {view!r}")
        super().__init__(view=view, engine_id=engine_id, height=height)
        if self.comm is not None:
            mend_comm(self.comm)
        self.on_msg(lambda _, content, buffers: self.receive(content))

    def receive(self, content: Any) -> None:
        """Take a message from a page (extension/PROTOCOL.md)."""
        raise NotImplementedError
