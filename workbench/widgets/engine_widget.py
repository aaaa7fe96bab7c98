"""The Python side of every view: a thin anywidget that passes messages between a page and an engine."""

import weakref
from typing import Any

from workbench.core.errors import EngineClosedError
from workbench.engine.client import EngineClient
from workbench.widgets.commands import run_command
from workbench.widgets.feed import Feed
from workbench.widgets.view_widget import PROTOCOL_VERSION, ViewWidget


class EngineWidget(ViewWidget):
    """One view of one engine. Made by LLM.dashboard() and LLM.view(name).

    It refers to its engine weakly: ipywidgets keeps every widget for good, and a view left in an old cell must not
    keep a model or a trace in memory. When the engine ends, the view keeps what it has shown and says so.
    """

    _feed: Feed | None = None  # a widget that was refused is closed all the same

    def __init__(self, client: EngineClient, view: str, height: int = 0) -> None:
        if client.loop.status().state == "closed":
            raise EngineClosedError("the engine was shut down; make a new LLM()")
        super().__init__(client.loop.core.trace.info["engine_id"], view, height)
        self._client = weakref.ref(client)
        self._hello = {"type": "hello", "protocol": PROTOCOL_VERSION, "engine": client.loop.core.trace.info}
        self._feed = Feed(self._client, self._send_frame)

    def close(self) -> None:
        """End the stream and the comm."""
        if self._feed is not None:
            self._feed.unsubscribe()
        super().close()

    def _send_frame(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.send(content, buffers)

    def receive(self, content: Any) -> None:
        """Take a message from a page. It comes on a thread of the kernel's and is answered without waiting."""
        feed = self._feed
        if feed is None:
            return
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "subscribe":
            self.send(self._hello)
            feed.subscribe()
        elif kind == "unsubscribe":
            feed.unsubscribe()
        elif kind == "ack":
            feed.acknowledge(int(content["seq"]))
        elif kind == "command":
            reply = {"type": "reply", "id": content.get("id")}
            client = self._client()
            if client is None:
                error = {"kind": "EngineClosedError", "message": "this engine is gone; make a new LLM()"}
                self.send({**reply, "ok": False, "error": error})
                return
            args = content.get("args") or {}
            run_command(client, str(content.get("name")), args, lambda answer: self.send({**reply, **answer}))
