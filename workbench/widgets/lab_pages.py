"""The engines of this kernel, as JupyterLab's workbench extension sees them: one comm for each open page.

The first engine of a kernel opens a comm of the same target towards the pages. It carries nothing: a page that is
there connects when it appears, and one that comes later finds it in the kernel's list of comms. The page's own comm
then carries the list of engines and, wrapped with the engine's id, what a view in a cell says over its own comm.
"""

import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from workbench.engine.client import EngineClient
from workbench.widgets.engine_channel import EngineChannel
from workbench.widgets.engine_summary import engine_summary
from workbench.widgets.protocol import PROTOCOL_VERSION
from workbench.widgets.still import Still
from workbench.widgets.subshell import mend_comm

TARGET = "inference-workbench"

# A page that wants the list kept up to date says so again every twenty seconds.
SILENCE_SECONDS = 60.0
MIN_SECONDS = 0.5


def announce(client: EngineClient) -> None:
    """Tell the pages of this kernel of a new engine; outside a Jupyter kernel nothing happens."""
    kernels = sys.modules.get("ipykernel.kernelbase")
    if kernels is None or not kernels.Kernel.initialized():
        return
    import comm

    manager = comm.get_comm_manager()
    # The kernel keeps its targets, so the list of engines lives as long as the kernel and needs no place of its own.
    pages = manager.targets.get(TARGET)
    if not isinstance(pages, LabPages):
        pages = LabPages(comm.create_comm)
        manager.register_target(TARGET, pages)
    pages.add(client)


def keep_for_pages(still: Still) -> None:
    """Let pages that come later ask for this picture; where no engine was announced there are none."""
    comms = sys.modules.get("comm")
    pages = None if comms is None else comms.get_comm_manager().targets.get(TARGET)
    if isinstance(pages, LabPages):
        pages.keep(still)


class LabPages:
    """The comm target: called with the comm of each page that connects."""

    def __init__(self, create_comm: Any) -> None:
        self._create_comm = create_comm
        self._announcement: Any = None
        self._engines: list[tuple[int, weakref.ref[EngineClient]]] = []
        self._count = 0
        self._pages: list[LabPage] = []
        self._stills: weakref.WeakSet[Still] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __call__(self, comm: Any, message: Any) -> None:
        """Take up a page. Raises nothing: the kernel would close the comm, and the page would take it for a no."""
        mend_comm(comm)
        page = LabPage(comm, self)
        with self._lock:
            forsaken = [other for other in self._pages if other.forsaken]
            self._pages.append(page)
        for other in forsaken:
            self._drop(other)
        comm.on_msg(lambda message: page.receive(message["content"]["data"]))
        comm.on_close(lambda _: self._drop(page))
        page.send_engines()

    def add(self, client: EngineClient) -> None:
        """List a new engine, weakly, and show it to every page."""
        with self._lock:
            self._count += 1
            self._engines = [pair for pair in self._engines if pair[1]() is not None]
            self._engines.append((self._count, weakref.ref(client)))
            pages = list(self._pages)
        if self._announcement is None:
            self._announcement = self._create_comm(target_name=TARGET, data={"protocol": PROTOCOL_VERSION})
            self._announcement.on_close(self._unannounced)
        for page in pages:
            page.send_engines()

    def keep(self, still: Still) -> None:
        """Know a picture by its id, as long as its view keeps it."""
        with self._lock:
            self._stills.add(still)

    def renew(self, editions: Mapping[str, str]) -> None:
        """A page's notebook holds these editions of pictures, by id: publish those again that have gone out of date."""
        with self._lock:
            stills = [still for still in self._stills if still.id in editions]
        for still in stills:
            still.renew(str(editions[still.id]))

    def summaries(self) -> list[dict[str, Any]]:
        """A summary of each engine that still exists, oldest first."""
        alive = [(ordinal, ref()) for ordinal, ref in list(self._engines)]
        return [engine_summary(client, ordinal) for ordinal, client in alive if client is not None]

    def find(self, engine_id: str) -> EngineClient | None:
        """The engine of this id, if it still exists."""
        clients = (ref() for _, ref in list(self._engines))
        found = (c for c in clients if c is not None and c.loop.core.trace.info["engine_id"] == engine_id)
        return next(found, None)

    def _unannounced(self, _: Any) -> None:
        """A page without the extension closes what it does not know; the next engine tries again."""
        self._announcement = None

    def _drop(self, page: "LabPage") -> None:
        page.close()
        with self._lock:
            self._pages = [other for other in self._pages if other is not page]


class LabPage:
    """One page: its comm, one channel for each engine that it shows, and the list of engines while it is watched."""

    def __init__(self, comm: Any, engines: LabPages) -> None:
        self._comm = comm
        self._engines = engines
        self._channels: dict[str, EngineChannel] = {}
        self._watch = 0  # a thread that finds another number than its own has been replaced and ends
        self._stop = threading.Event()
        self._last_heard = time.monotonic()
        self._lock = threading.Lock()

    @property
    def forsaken(self) -> bool:
        """True if the page has said nothing for so long that it is taken for gone."""
        return time.monotonic() - self._last_heard > 10 * SILENCE_SECONDS

    def receive(self, content: Any) -> None:
        """Take a message from the page. It comes on a thread of the kernel's and is answered without waiting."""
        self._last_heard = time.monotonic()
        if not isinstance(content, Mapping):
            return
        kind = content.get("type")
        if kind == "watch":
            self._start_watch(content.get("seconds"))
        elif kind == "stills":
            self._engines.renew(content.get("editions") or {})
        elif kind == "engine":
            channel = self._channel(str(content.get("engine_id")))
            if channel is not None:
                channel.receive(content.get("message"))

    def send_engines(self) -> None:
        """The list of engines, as it is now."""
        self._send({"type": "engines", "protocol": PROTOCOL_VERSION, "engines": self._engines.summaries()}, [])

    def close(self) -> None:
        """Stop everything that sends."""
        with self._lock:
            self._watch += 1
            self._stop.set()
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    def _send(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self._comm.send(content, buffers=buffers)

    def _channel(self, engine_id: str) -> EngineChannel | None:
        with self._lock:
            if engine_id not in self._channels:
                client = self._engines.find(engine_id)
                if client is None:
                    return None
                self._channels[engine_id] = EngineChannel(
                    client,
                    lambda message, buffers: self._send(
                        {"type": "engine", "engine_id": engine_id, "message": message}, buffers
                    ),
                )
            return self._channels[engine_id]

    def _start_watch(self, seconds: Any) -> None:
        with self._lock:
            self._watch += 1
            self._stop.set()
            self._stop = threading.Event()
            if seconds is None:
                return
            arguments = (self._watch, self._stop, max(MIN_SECONDS, float(seconds)))
            threading.Thread(target=self._run_watch, args=arguments, name="workbench-list", daemon=True).start()

    def _run_watch(self, watch: int, stop: threading.Event, seconds: float) -> None:
        shown: list[dict[str, Any]] | None = None
        while self._watch == watch and time.monotonic() - self._last_heard < SILENCE_SECONDS:
            engines = self._engines.summaries()
            if engines != shown:
                shown = engines
                self._send({"type": "engines", "protocol": PROTOCOL_VERSION, "engines": engines}, [])
            del engines
            if stop.wait(seconds):
                return
