"""Is the time to first token in the trace the one that a client sees?"""

import time
from typing import Any

from workbench.core.sampling_params import SamplingParams
from workbench.llm import LLM
from workbench.trace.metrics import measure, percentile

REQUESTS = 20
PARAMS = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)


def latency_rows(rounds: int) -> list[dict[str, Any]]:
    """Requests one after another on the bundled model: the client's clock from submit() to the first piece, against
    arrival to first token in the trace. On a busy machine the client's thread waits for a processor, which counts."""
    with LLM() as llm:
        clients: dict[str, float] = {}
        own: dict[str, float] = {}
        for index in range(rounds * REQUESTS + 1):
            began = time.perf_counter()
            handle = llm.submit(f"Story number {index} is about", PARAMS)
            for _ in handle:
                clients[handle.request_id] = time.perf_counter() - began
                break
            own[handle.request_id] = handle.result().metrics.time_to_first_token or 0.0
        metrics = measure(llm.trace)
    names = list(clients)[1:]  # the first one pays for what is loaded on demand
    traced = [metrics[name].ttft or 0.0 for name in names]
    gaps = [abs(clients[name] - ttft) * 1e3 for name, ttft in zip(names, traced, strict=True)]
    own_gaps = [abs(own[name] - ttft) * 1e3 for name, ttft in zip(names, traced, strict=True)]
    return [
        {
            "requests": len(names),
            "TTFT in the trace, median ms": round(percentile(traced, 50) * 1e3, 2),
            "client's, median ms": round(percentile([clients[n] for n in names], 50) * 1e3, 2),
            "difference p50 ms": round(percentile(gaps, 50), 3),
            "p99 ms": round(percentile(gaps, 99), 3),
            "output.metrics differ by, p99 ms": round(percentile(own_gaps, 99), 3),
        }
    ]
