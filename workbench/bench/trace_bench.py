"""How a long trace behaves: opening any step, explaining a request, memory and its bound, saving and loading."""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from workbench.core.config import DEFAULT_TRACE_MEMORY_BYTES, DEFAULT_TRACE_STEPS, SchedulerConfig
from workbench.core.policy import Policy
from workbench.sim import Simulator, Workload
from workbench.trace import Trace
from workbench.trace.keyframes import KEYFRAME_BYTES
from workbench.trace.life import request_ids
from workbench.trace.metrics import percentile

USERS = 16
OPENED = 300  # steps, drawn at random
EXPLAINED = 20  # requests, drawn at random
SECONDS = 0.004  # of a simulated step


def trace_rows(num_steps: int = DEFAULT_TRACE_STEPS) -> list[dict[str, Any]]:
    """A row for the trace as it was recorded, and one for the same trace saved and loaded.

    bound MiB: what an engine's trace never exceeds, records and keyframes together, however long the run is; a file
    brings no more than it holds.
    """
    trace = _recorded(num_steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.trace"
        began = time.process_time()
        trace.save(path)
        saved = time.process_time() - began
        size = path.stat().st_size
        began = time.process_time()
        loaded = Trace.load(path)
        read = time.process_time() - began
    return [
        {
            **_opened("recorded", trace),
            "save CPU s": round(saved, 1),
            "file MiB": round(size / 2**20, 1),
            "load CPU s": "–",
        },
        {
            **_opened("loaded", loaded),
            "save CPU s": "–",
            "file MiB": round(size / 2**20, 1),
            "load CPU s": round(read, 1),
        },
    ]


def _recorded(num_steps: int) -> Trace:
    """A run of so many steps with USERS requests at a time; keyframes come with the records, as from an engine."""
    sizes = {"prompt_len": (16, 160), "output_len": (60, 240)}
    users = Workload.closed_loop(num_users=USERS, requests_per_user=max(1, num_steps // 100), seed=1, **sizes)
    config = SchedulerConfig(
        num_blocks=USERS * 24,
        block_size=16,
        max_num_seqs=USERS,
        max_num_batched_tokens=256,
        max_model_len=512,
        vocab_size=1000,
    )
    simulator = Simulator(users, config, Policy(), lambda plan: SECONDS)
    trace = Trace(simulator.scheduler.snapshot(), num_steps, max_bytes=DEFAULT_TRACE_MEMORY_BYTES)
    for record in tqdm(simulator.run(), total=num_steps, desc="recording", delay=1.0, leave=False):
        trace.append(record, simulator.scheduler.freeze)
        if len(trace) == num_steps:
            break
    return trace


def _opened(name: str, trace: Trace) -> dict[str, Any]:
    began = time.process_time()
    trace.at(trace.last_step)
    first = time.process_time() - began
    draw, took = random.Random(0), []
    for _ in range(OPENED):
        step = draw.randrange(trace.first_step, trace.last_step + 1)
        began = time.process_time()
        trace.at(step)
        took.append((time.process_time() - began) * 1e3)
    explained = []
    for request_id in draw.sample(names := request_ids(trace), min(EXPLAINED, len(names))):
        began = time.process_time()
        trace.why(request_id)
        explained.append((time.process_time() - began) * 1e3)
    bound = "none" if trace.max_bytes is None else f"{(trace.max_bytes + KEYFRAME_BYTES) / 2**20:,.0f}"
    return {
        "trace": name,
        "steps": len(trace),
        "dropped": trace.num_dropped,
        "records MiB": round(trace.num_bytes / 2**20, 1),
        "bound MiB": bound,
        "first at() CPU ms": round(first * 1e3, 1),
        "at() median ms": round(percentile(took, 50), 2),
        "p99 ms": round(percentile(took, 99), 2),
        "why() median ms": round(percentile(explained, 50), 1),
    }
