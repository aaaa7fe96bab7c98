"""The Python side of a view in a cell: a thin anywidget that passes messages between a page and an engine."""

import weakref
from collections.abc import Callable
from typing import Any

from workbench.core.errors import EngineClosedError
from workbench.core.settings import Setting, Settings
from workbench.engine.client import EngineClient
from workbench.ledger import Ledger
from workbench.lockstep_job import LockstepJob
from workbench.tables import html_table
from workbench.trace import Trace
from workbench.trace.roofline_picture import Machine
from workbench.what_if import WhatIfJob
from workbench.widgets.engine_channel import EngineChannel
from workbench.widgets.feed import knobs
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

    def stands(self) -> object:
        """The knobs, or whether it runs: both may change without a step."""
        client = self._client()
        if client is None or self.view not in ("controls", "knobs"):
            return None
        return self._state(client) if self.view == "controls" else tuple(knobs(client).items())

    def more(self) -> str:
        """The ledger, the knobs, or what the controls say."""
        client = self._client()
        if client is None:
            return ""
        core = client.loop.core
        if self.view == "memory" and client.loop.status().state != "closed":
            reading = core.runner.device()
            return Ledger(core.memory(reading), reading)._repr_html_()
        if self.view == "knobs":
            return Settings({name: Setting(*values) for name, values in knobs(client).items()})._repr_html_()
        if self.view == "controls":
            return html_table(("control", "stands at"), self._state(client))
        return ""

    def _state(self, client: EngineClient) -> tuple[tuple[str, str], ...]:
        status = client.loop.status()
        speed = "as fast as it can" if status.speed is None else f"{status.speed:g} steps/s"
        points = ", ".join(point.name for point in client.loop.breakpoints) or "none"
        why = status.message or status.stopped_by
        state = status.state if why is None else f"{status.state}: {why}"
        return ("engine", state), ("speed", speed), ("breakpoints", points)

    def machine(self) -> Machine | None:
        """The model's sizes and the machine's limits, while there is an engine with a model."""
        client = self._client()
        sizes = None if client is None else client.loop.core.runner.work()
        return None if client is None or sizes is None else Machine(sizes, client.limits)

    def receive(self, content: Any) -> None:
        """Take a message from a page."""
        if self._channel is not None:
            self._channel.receive(content)
