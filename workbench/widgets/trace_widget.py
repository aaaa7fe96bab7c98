"""A view of a saved trace: the same page code, and no engine behind it."""

from typing import Any

from workbench.trace import Trace
from workbench.trace.wire import dumps
from workbench.widgets.protocol import PROTOCOL_VERSION
from workbench.widgets.view_widget import ViewWidget

FRAME_STEPS = 2000


class TraceWidget(ViewWidget):
    """Sends a trace to a page once, in frames, whenever the page asks for it."""

    def __init__(self, trace: Trace, view: str = "dashboard", height: int = 0, *, embed_trace: bool = False) -> None:
        # A name of its own: the trace of a live engine, shown beside it, is not that engine.
        super().__init__(f"trace-{id(trace):x}", view, height, embed_trace)
        self._trace = trace

    def trace(self) -> Trace:
        """What is shown."""
        return self._trace

    def receive(self, content: Any) -> None:
        """Take a message from a page."""
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "subscribe":
            self._send_all()
        elif kind == "command":
            self.send({"type": "reply", "id": content.get("id"), **self._answer(content)})

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if command.get("name") == "why":
            return {"ok": True, "result": self._trace.why(str(command["args"]["request_id"])).to_json()}
        error = {"kind": "SavedTrace", "message": "this is a saved trace: there is no engine to command"}
        return {"ok": False, "error": error}

    def _send_all(self) -> None:
        self.send({"type": "hello", "protocol": PROTOCOL_VERSION, "engine": self._trace.info, "saved": True})
        payload = self._trace.payload()
        records = payload["records"]
        for seq, start in enumerate(range(0, max(1, len(records)), FRAME_STEPS), start=1):
            part = {"records": records[start : start + FRAME_STEPS], "texts": {}, "status": payload["status"]}
            if start == 0:
                part |= {"snapshot": payload["snapshot"], "texts": payload["texts"]}
            self.send({"type": "frame", "seq": seq, "keyframe": start == 0}, [dumps(part)])
