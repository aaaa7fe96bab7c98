"""A view of a saved trace: the same page code, and no engine behind it."""

from concurrent.futures import Future
from typing import Any

from workbench.core.errors import ConfigError, WorkbenchError
from workbench.trace import Trace
from workbench.trace.roofline_picture import Machine
from workbench.trace.wire import dumps
from workbench.what_if import WhatIfJob
from workbench.widgets.commands import answer_command
from workbench.widgets.protocol import PROTOCOL_VERSION
from workbench.widgets.traffic_commands import SIMULATING
from workbench.widgets.view_widget import ViewWidget

FRAME_STEPS = 2000


class SavedTraceError(WorkbenchError):
    """A command that only an engine could follow."""


class TraceWidget(ViewWidget):
    """Sends a trace to a page once, in frames, whenever the page asks for it."""

    _what_if: WhatIfJob | None = None  # a widget that was refused is closed all the same

    def __init__(self, trace: Trace, view: str = "dashboard", height: int = 0, *, embed_trace: bool = False) -> None:
        # A name of its own: the trace of a live engine, shown beside it, is not that engine.
        super().__init__(f"trace-{id(trace):x}", view, height, embed_trace)
        self._trace = trace
        self._seq = 0
        self._status: dict[str, Any] = {}

    def trace(self) -> Trace:
        """What is shown."""
        return self._trace

    def answer(self) -> str:
        """The comparison that was simulated last."""
        return "" if self._what_if is None or self.view != "what_if" else self._what_if.html

    def machine(self) -> Machine | None:
        """A trace has neither a model nor a machine."""
        return None

    def receive(self, content: Any) -> None:
        """Take a message from a page."""
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "subscribe":
            self._send_all()
        elif kind == "unsubscribe":
            self._stop_what_if()
        elif kind == "command":
            reply = {"type": "reply", "id": content.get("id")}
            answer_command(lambda: self._answer(content), lambda answer: self.send({**reply, **answer}))

    def _answer(self, command: dict[str, Any]) -> Any:
        name, args = command.get("name"), command.get("args") or {}
        if name == "why":
            return self._trace.why(str(args["request_id"])).to_json()
        if name == "what_if":
            return self._start_what_if(args)
        if name == "what_if_stop":
            return self._stop_what_if()
        raise SavedTraceError("this is a saved trace: there is no engine to command")

    def close(self) -> None:
        """End what goes on for the view, and the comm."""
        self._stop_what_if()
        super().close()

    def _start_what_if(self, args: dict[str, Any]) -> "Future[dict[str, Any]]":
        if self._what_if is not None and self._what_if.running:
            raise ConfigError(SIMULATING)
        self._what_if = WhatIfJob(self._trace, args.get("settings", {}), on_progress=self._send_progress)
        self._what_if.future.add_done_callback(lambda _: self.touch_stills())
        return self._what_if.future

    def _stop_what_if(self) -> None:
        if self._what_if is not None:
            self._what_if.stop()

    def _send_all(self) -> None:
        self.send({"type": "hello", "protocol": PROTOCOL_VERSION, "engine": self._trace.info, "saved": True})
        for payload in self._trace.payloads(FRAME_STEPS):
            self._status = payload["status"]
            self._send_frame(payload)

    def _send_progress(self) -> None:
        if self._status:  # a page that was sent the trace
            self._send_frame({"records": [], "texts": {}})

    def _send_frame(self, payload: dict[str, Any]) -> None:
        self._seq += 1
        jobs = {} if self._what_if is None else {"what_if": self._what_if.progress()}
        message = {"type": "frame", "seq": self._seq, "keyframe": "snapshot" in payload}
        self.send(message, [dumps({**payload, "status": {**self._status, "jobs": jobs}})])
