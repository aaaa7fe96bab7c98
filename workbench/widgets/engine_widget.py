"""The Python side of a view in a cell: a thin anywidget that passes messages between a page and an engine."""

import weakref
from collections.abc import Callable
from typing import Any

from workbench.core.errors import EngineClosedError
from workbench.engine.client import EngineClient
from workbench.lockstep_job import LockstepJob
from workbench.trace import Trace
from workbench.trace.roofline_picture import Machine
from workbench.what_if import WhatIfJob
from workbench.widgets.engine_channel import EngineChannel
from workbench.widgets.view_widget import ViewWidget


class EngineWidget(ViewWidget):
    """One view of one engine. Made by LLM.dashboard() and LLM.view(name).

    ipywidgets keeps every widget for good, and the widget refers to its engine weakly.
    """

    _channel: EngineChannel | None = None  # a widget that was refused is closed all the same
    _stop_touching: Callable[[], None] | None = None

    def __init__(self, client: EngineClient, view: str, height: int = 0, *, embed_trace: bool = False) -> None:
        if client.loop.status().state == "closed":
            raise EngineClosedError("the engine was shut down; make a new LLM()")
        super().__init__(client.loop.core.trace.info["engine_id"], view, height, embed_trace)
        self._client = weakref.ref(client)
        self._channel = EngineChannel(client, lambda content, buffers: self.send(content, buffers))
        self._stop_touching = client.loop.core.hooks.on_rest(self.touch_stills)

    def close(self) -> None:
        """End the stream and the comm."""
        if self._channel is not None:
            self._channel.close()
        if self._stop_touching is not None:
            self._stop_touching()
        super().close()

    def trace(self) -> Trace | None:
        """The engine's trace, while there is an engine."""
        client = self._client()
        return None if client is None else client.loop.core.trace

    def answer(self) -> str:
        """What was simulated or compared last for this engine, from whichever view it was asked."""
        client = self._client()
        jobs = {} if client is None else client.jobs
        if self.view == "what_if" and isinstance(job := jobs.get("what_if"), WhatIfJob):
            return job.html
        if self.view == "playground" and isinstance(job := jobs.get("lockstep"), LockstepJob):
            found = job.result()
            return "" if found is None else found._repr_html_()
        return ""

    def machine(self) -> Machine | None:
        """The model's sizes and the machine's limits, while there is an engine with a model."""
        client = self._client()
        sizes = None if client is None else client.loop.core.runner.work()
        return None if client is None or sizes is None else Machine(sizes, client.limits)

    def receive(self, content: Any) -> None:
        """Take a message from a page."""
        if self._channel is not None:
            self._channel.receive(content)
