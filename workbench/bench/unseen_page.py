"""A page without a browser, for what watching costs the engine by itself."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.llm import LLM
from workbench.widgets.engine_channel import EngineChannel

CATCH_UP_SECONDS = 30.0


@contextmanager
def unseen_page(llm: LLM, flowing: threading.Event | None = None) -> Iterator[None]:
    """A page that takes the engine's stream, acknowledges it as pages do and draws nothing, in this process.

    Entered once it has caught up with what was before. While `flowing` is clear it is sent nothing.
    """
    newest, seen = llm.status().step, threading.Event()

    def take(content: dict[str, Any], buffers: list[bytes]) -> None:
        if flowing is not None:
            flowing.wait()
        if content["type"] != "frame":
            return
        if not seen.is_set():
            records = json.loads(buffers[0])["records"]
            if not records or records[-1]["step"] >= newest:
                seen.set()
        if content["seq"] % 10 == 0:
            channel.receive({"type": "ack", "seq": content["seq"]})

    channel = EngineChannel(llm.client, take)
    channel.receive({"type": "subscribe"})
    seen.wait(CATCH_UP_SECONDS)
    try:
        yield
    finally:
        channel.close()
