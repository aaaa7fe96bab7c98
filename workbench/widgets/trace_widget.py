"""A view of a saved trace: the same page code, and no engine behind it."""

from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.trace import Trace
from workbench.trace.wire import dumps
from workbench.widgets.commands import answer_command
from workbench.widgets.protocol import PROTOCOL_VERSION
from workbench.widgets.traffic_commands import start_what_if
from workbench.widgets.view_widget import ViewWidget

FRAME_STEPS = 2000


class SavedTraceError(WorkbenchError):
    """A command that only an engine could follow."""


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
            reply = {"type": "reply", "id": content.get("id")}
            answer_command(lambda: self._answer(content), lambda answer: self.send({**reply, **answer}))

    def _answer(self, command: dict[str, Any]) -> Any:
        name, args = command.get("name"), command.get("args") or {}
        if name == "why":
            return self._trace.why(str(args["request_id"])).to_json()
        if name == "what_if":
            return start_what_if(self._trace, args).future
        raise SavedTraceError("this is a saved trace: there is no engine to command")

    def _send_all(self) -> None:
        self.send({"type": "hello", "protocol": PROTOCOL_VERSION, "engine": self._trace.info, "saved": True})
        payload = self._trace.payload()
        records = payload["records"]
        for seq, start in enumerate(range(0, max(1, len(records)), FRAME_STEPS), start=1):
            part = {"records": records[start : start + FRAME_STEPS], "texts": {}, "status": payload["status"]}
            if start == 0:
                part |= {"snapshot": payload["snapshot"], "texts": payload["texts"]}
            self.send({"type": "frame", "seq": seq, "keyframe": start == 0}, [dumps(part)])
