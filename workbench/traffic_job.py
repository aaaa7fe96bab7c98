"""Traffic that goes on by itself: a workload sent to a live engine from a thread of its own, for the page."""

import heapq
import threading
import time
import weakref
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.engine.client import EngineClient
from workbench.engine.request_stream import RequestStream
from workbench.sim import Workload
from workbench.traffic import params_of

POLL_SECONDS = 0.01


class TrafficJob:
    """Begins at once. It refers to the engine weakly and ends with it; stopping cancels what is on its way.

    Raises as the engine does for a request that it would refuse, before anything is sent.
    """

    def __init__(self, client: EngineClient, workload: Workload) -> None:
        for request in workload:
            client.loop.core.scheduler.check_request(request.prompt_token_ids, params_of(request))
        self._client = weakref.ref(client)
        self._workload = workload
        self._streams: dict[int, RequestStream] = {}
        self._stopping = threading.Event()
        self._state = "running"
        self._message: str | None = None
        threading.Thread(target=self._run, name="workbench-traffic", daemon=True).start()

    @property
    def running(self) -> bool:
        """False once it is done or stopped."""
        return self._state == "running"

    def progress(self) -> dict[str, Any]:
        """For views: what was sent, is on its way and has ended, of how many."""
        streams = list(self._streams.values())
        finished = sum(stream.done() for stream in streams)
        return {
            "state": self._state,
            "name": self._workload.name,
            "total": len(self._workload),
            "sent": len(streams),
            "finished": finished,
            "message": self._message,
        }

    def stop(self) -> None:
        """Send nothing more and cancel what was sent. Returns at once."""
        self._stopping.set()

    def _run(self) -> None:
        try:
            self._send_all()
            while self.running and not all(stream.done() for stream in list(self._streams.values())):
                if self._stopping.wait(POLL_SECONDS) or self._gone():
                    break
            ended = "stopped" if self._stopping.is_set() or self._gone() else "done"
        except WorkbenchError as error:
            self._message, ended = str(error), "stopped"
        if ended == "stopped":
            self._cancel()
        self._state = ended

    def _send_all(self) -> None:
        began = time.perf_counter()
        due = [(r.time, index) for index, r in enumerate(self._workload) if r.after is None]
        heapq.heapify(due)
        followers = {index: r.after for index, r in enumerate(self._workload) if r.after is not None}
        while (due or followers) and not self._stopping.is_set():
            now = time.perf_counter() - began
            for index, after in list(followers.items()):
                if after in self._streams and self._streams[after].done():
                    del followers[index]
                    heapq.heappush(due, (now + self._workload[index].time, index))
            while due and due[0][0] <= now:
                _, index = heapq.heappop(due)
                client = self._client()
                if client is None:
                    return
                self._streams[index] = self._send(client, index)
                del client
            pause = due[0][0] - (time.perf_counter() - began) if due else POLL_SECONDS
            self._stopping.wait(max(0.0, min(pause, POLL_SECONDS if followers else 0.25)))
            if self._gone():
                return

    def _send(self, client: EngineClient, index: int) -> RequestStream:
        request = self._workload[index]
        prompt = {"prompt_token_ids": list(request.prompt_token_ids)}
        return client.submit([prompt], [params_of(request)], [request.priority])[0]

    def _gone(self) -> bool:
        client = self._client()
        return client is None or client.loop.status().state == "closed"

    def _cancel(self) -> None:
        client = self._client()
        if client is None or client.loop.status().state == "closed":
            return
        for stream in self._streams.values():
            if not stream.done():
                client.cancel(stream.request_id)
