"""Cost as work grows: throughput by running requests, a scheduler's step by the pool."""

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from workbench.bench.scheduler_bench import OurDecoding, decoding_prompts
from workbench.bench.workloads import fixed
from workbench.core.records import StepRecord
from workbench.core.sampling_params import SamplingParams
from workbench.core.work import ATTENTION, HEAD, MATRICES
from workbench.llm import LLM
from workbench.roofline import Roofline
from workbench.trace.keyframes import KEYFRAME_STEPS
from workbench.trace.metrics import measure, percentile

RUNNING = (1, 2, 4, 8, 16, 32, 64, 128, 256)
POOLS = (1_000, 10_000, 100_000, 1_000_000)
PROMPT, OUTPUT = 16, 32
BLOCK = 16


def running_rows(rounds: int, counts: Sequence[int] = RUNNING) -> list[dict[str, Any]]:
    """The bundled model, all requests at once: tokens/s (median round) and latencies of all rounds together.

    Beside a decode step stand its forward's parts, timed on the same shape, and what the machine's limits allow. That
    limit goes flat itself: with few requests the weights have to be read for each step (bound by memory), with many
    each token costs the same arithmetic. Throughput ends where the multiplications reach the matmul peak.
    """
    with LLM(max_num_seqs=max(counts), num_gpu_blocks_override=max(counts) * 4) as llm:
        return [_running(llm, count, rounds) for count in tqdm(counts, desc="running requests", delay=1.0, leave=False)]


def _running(llm: LLM, count: int, rounds: int) -> dict[str, Any]:
    speeds, ttft, itl, e2e = [], [], [], []
    decodes: list[StepRecord] = []
    items = fixed(count, PROMPT, OUTPUT, llm.model.vocab_size)
    prompts = [{"prompt_token_ids": item.prompt_token_ids} for item in items]
    params = SamplingParams(temperature=0.0, max_tokens=OUTPUT, ignore_eos=True)
    for index in range(rounds + 1):
        llm.reset_prefix_cache()
        first = llm.trace.last_step
        began = time.perf_counter()
        llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - began
        if not index:  # not counted
            continue
        speeds.append(count * OUTPUT / seconds)
        records = llm.trace.records(since=first)
        decodes += [r for r in records if len(r.sampled) == r.num_scheduled_tokens == count]
        for metrics in measure(records).values():
            ttft.append(metrics.ttft or 0.0)
            itl += metrics.itl
            e2e.append(metrics.e2e or 0.0)
    row: dict[str, Any] = {"running": count, "tokens/s": round(statistics.median(speeds))}
    row["decode step ms"] = round(statistics.median(r.duration for r in decodes) * 1e3, 2)
    row["its forward ms"] = round(statistics.median(r.times.forward for r in decodes) * 1e3, 2)
    row |= _why(llm.roofline(sorted(decodes, key=lambda record: record.duration)[len(decodes) // 2].step), count)
    for name, values in (("TTFT", ttft), ("ITL", itl), ("E2E", e2e)):
        for q in (50, 95, 99):
            row[f"{name} p{q} ms"] = round(percentile(values, q) * 1e3, 2)
    return row


def _why(roofline: Roofline, count: int) -> dict[str, Any]:
    """What a decode step's forward is made of, and how near it is to what the machine allows."""
    parts = [part for part in roofline.parts if part.name != "forward"]
    matmuls = [part for part in parts if part.name in (MATRICES, HEAD)]
    whole, multiplying = (sum(part.seconds for part in some) for some in (parts, matmuls))
    limit = roofline["forward"].limit_seconds or math.inf
    return {
        "matmuls, of the forward": f"{multiplying / whole:.0%}",
        "attention, of the forward": f"{roofline[ATTENTION].seconds / whole:.0%}",
        "matmuls, of their limit": f"{sum(part.limit_seconds or 0.0 for part in matmuls) / multiplying:.0%}",
        "bound by": roofline["forward"].bound,
        "tokens/s at the limit": round(count / limit),
    }


def pool_rows(rounds: int, pools: Sequence[int] = POOLS) -> list[dict[str, Any]]:
    """A scheduler's step with 16 requests that decode, and a keyframe of the trace, by the size of the pool.

    The engine's thread takes a keyframe once in KEYFRAME_STEPS steps or less often, so its share of a step stands
    beside it. A snapshot is written out only where somebody looks, in that reader's thread.
    """
    rows = []
    for blocks in tqdm(pools, desc="pools", delay=1.0, leave=False):
        decoding = OurDecoding(decoding_prompts(16, BLOCK), 16 * rounds + KEYFRAME_STEPS + 2, BLOCK, blocks)
        steps = [decoding.run(16) / 16 for _ in range(rounds)]
        decoding.freeze()
        decoding.run(KEYFRAME_STEPS)
        began = time.thread_time()
        frozen = decoding.freeze()
        keyframe = time.thread_time() - began
        began = time.thread_time()
        frozen.snapshot()
        snapshot = time.thread_time() - began
        rows.append(
            {
                "blocks": blocks,
                "µs per step": round(statistics.median(steps) * 1e6, 1),
                "ms per keyframe": round(keyframe * 1e3, 3),
                "its share of a step, at most, µs": round(keyframe / KEYFRAME_STEPS * 1e6, 2),
                "ms to write out a snapshot": round(snapshot * 1e3, 2),
            }
        )
    return rows
