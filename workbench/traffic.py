"""Sends a workload to a live engine, in real time."""

import heapq
import time
from collections.abc import Mapping
from typing import Any, Protocol

from workbench.core.sampling_params import SamplingParams
from workbench.engine.handle import RequestHandle
from workbench.engine.outputs import RequestOutput
from workbench.sim import Workload, WorkloadRequest

POLL_SECONDS = 0.002  # how late the end of a request may be noticed by the one that comes after it


class Engine(Protocol):
    """What an LLM offers and traffic needs."""

    def submit(
        self, prompt: Mapping[str, Any], sampling_params: SamplingParams | None = None, *, priority: int = 0
    ) -> RequestHandle:
        """Queue one request."""
        ...


def drive(llm: Engine, workload: Workload, *, progress: bool = True) -> list[RequestOutput]:
    """Submit each request of a workload when it is due, and wait for all; answers come in the workload's order.

    Runs in the calling thread. Every request makes exactly as many tokens as the workload says (with n > 1, each
    sequence as many as the longest one), greedily where n is 1. Interrupting it cancels the requests that are on their
    way. Raises as LLM.submit does, for instance InvalidRequestError for a prompt that the engine refuses.
    """
    from tqdm.auto import tqdm  # chooses its notebook form by what is running it

    handles: dict[int, RequestHandle] = {}
    with tqdm(total=len(workload), desc="Traffic", unit="request", delay=1.0, disable=not progress) as bar:
        try:
            _submit_all(llm, workload, handles)
            outputs = []
            for index in range(len(workload)):
                outputs.append(handles[index].result())
                bar.update(1)
            return outputs
        except BaseException:  # KeyboardInterrupt above all
            for handle in handles.values():
                handle.cancel()
            raise


def _submit_all(llm: Engine, workload: Workload, handles: dict[int, RequestHandle]) -> None:
    began = time.perf_counter()
    due = [(request.time, index) for index, request in enumerate(workload) if request.after is None]
    heapq.heapify(due)
    waiting = {index: r.after for index, r in enumerate(workload) if r.after is not None}
    while due or waiting:
        now = time.perf_counter() - began
        for index, after in list(waiting.items()):
            if after in handles and handles[after].done():
                del waiting[index]
                heapq.heappush(due, (now + workload[index].time, index))
        while due and due[0][0] <= now:
            _, index = heapq.heappop(due)
            handles[index] = _submit(llm, workload[index])
        pause = due[0][0] - now if due else POLL_SECONDS
        time.sleep(max(0.0, min(pause, POLL_SECONDS) if waiting else pause if due else 0.0))


def _submit(llm: Engine, request: WorkloadRequest) -> RequestHandle:
    prompt = {"prompt_token_ids": list(request.prompt_token_ids)}
    return llm.submit(prompt, params_of(request), priority=request.priority)


def params_of(request: WorkloadRequest) -> SamplingParams:
    """Exactly as many tokens as the workload says, greedily where n is 1."""
    n = len(request.output_lens)
    return SamplingParams(n=n, temperature=0.0 if n == 1 else 1.0, max_tokens=max(request.output_lens), ignore_eos=True)
