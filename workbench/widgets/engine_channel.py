"""One view's conversation with one engine (extension/PROTOCOL.md), over whatever carries its messages."""

import weakref
from collections.abc import Mapping
from typing import Any

from workbench.engine.client import EngineClient
from workbench.widgets.commands import run_command
from workbench.widgets.feed import Feed, Send
from workbench.widgets.protocol import PROTOCOL_VERSION


class EngineChannel:
    """Answers a page's messages and streams to it while it is subscribed. Nothing here waits for the engine.

    It refers to its engine weakly: a view left in an old cell or an open panel must not keep a model or a trace in
    memory. When the engine ends, the view keeps what it has shown and says so. `send` takes a message and its binary
    buffers and must be safe to call from any thread.
    """

    def __init__(self, client: EngineClient, send: Send) -> None:
        self._client = weakref.ref(client)
        self._hello = {"type": "hello", "protocol": PROTOCOL_VERSION, "engine": client.loop.core.trace.info}
        self._send = send
        self._feed = Feed(self._client, send)

    def close(self) -> None:
        """End the stream."""
        self._feed.unsubscribe()

    def receive(self, content: Any) -> None:
        """Take a message from a page. It comes on a thread of the kernel's and is answered without waiting."""
        if not isinstance(content, Mapping):
            return
        kind = content.get("type")
        if kind == "subscribe":
            self._send(self._hello, [])
            self._feed.subscribe(content.get("updates_per_second"))
        elif kind == "unsubscribe":
            self._feed.unsubscribe()
        elif kind == "ack":
            self._feed.acknowledge(int(content["seq"]))
        elif kind == "command":
            self._run(content)

    def _run(self, content: Mapping[str, Any]) -> None:
        reply = {"type": "reply", "id": content.get("id")}
        client = self._client()
        if client is None:
            error = {"kind": "EngineClosedError", "message": "this engine is gone; make a new LLM()"}
            self._send({**reply, "ok": False, "error": error}, [])
            return
        args = content.get("args") or {}
        feed, send = weakref.ref(self._feed), self._send
        run_command(
            client,
            str(content.get("name")),
            args,
            lambda answer: send({**reply, **answer}, []),
            gone=lambda: (found := feed()) is None or found.ended,
        )
