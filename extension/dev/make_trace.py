"""Writes a trace for the front end's harness and tests: the real scheduler over a runner that only makes up tokens.

    python extension/dev/make_trace.py OUT.json [--blocks N] [--requests N] [--steps N]

The file holds {engine, payload, frame, latency, kernels, snapshots, why, preview, comparison, explained}: the first two
as the protocol has them, frame as its first records are in one frame, latency and kernels as Python counts them,
snapshots as [step, Snapshot] of some steps, so that a test can compare its own rebuilt states, why as request id ->
what the command answers, what the commands traffic_preview and what_if answer, and explained as [decision, sentence].
"""

import argparse
import dataclasses
import gzip
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.core.config import ModelSpec, PoolShape, SchedulerConfig
from workbench.core.machine import MachineLimits
from workbench.core.policy import POLICIES, Policy
from workbench.core.reasons import explain
from workbench.core.records import SettingChange, Snapshot, StepRecord, StepTimes, setting_text
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SampledToken
from workbench.core.weights import WeightRow
from workbench.core.work import ATTENTION, HEAD, MATRICES, work_sizes
from workbench.roofline import make_roofline
from workbench.sim.recipe import preview, workload_from_recipe
from workbench.simulate import compare, simulate
from workbench.trace import Trace
from workbench.trace.life import lives_of
from workbench.trace.metrics import Slo, goodput, histogram, measure, percentile
from workbench.trace.why import explain_life
from workbench.trace.wire import RecordReader, RecordWriter, records_to_json

WORDS = (
    "the a and to was little she he it in of one day said with her his you they very big saw happy for on that up not "
    "red dog cat bird tree house park mom wanted play went had so made then ball boat friend looked smiled ran home"
)
PUNCTUATION = [".", ",", "!", "\n"]
VOCABULARY = ["", *PUNCTUATION, *(" " + word for word in WORDS.split())]

# A model and a machine for the kernel view.
MODEL = ModelSpec(
    name="bundled tiny stories model",
    architecture="LlamaForCausalLM",
    backend="decoder",
    device="cpu",
    dtype="bfloat16",
    vocab_size=4096,
    max_model_len=1024,
    num_layers=6,
    hidden_size=192,
    num_heads=6,
    num_kv_heads=2,
    head_size=32,
    num_parameters=4_600_000,
    weight_bytes=9_200_000,
    kv_bytes_per_token=1536,
    eos_token_ids=(0,),
)
WEIGHTS = [WeightRow("matrices", (2304, 1024), "bfloat16", 4_718_592, quantizable=True)]
LIMITS = MachineLimits("cpu", "bfloat16", 2, 2.4e10, 2.1e11)
FRAME_STEPS = 120


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("out", type=Path)
    options.add_argument("--blocks", type=int, default=72)
    options.add_argument("--requests", type=int, default=28)
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--seed", type=int, default=7)
    arguments = options.parse_args()
    trace = make(arguments.blocks, arguments.requests, arguments.steps, arguments.seed)
    data = json.dumps(trace).encode()
    # A fixed time stamp, so that the same trace is the same file.
    arguments.out.write_bytes(gzip.compress(data, mtime=0) if arguments.out.suffix == ".gz" else data)
    print(f"{len(trace['payload']['records'])} steps, {arguments.out.stat().st_size / 1e6:.1f} MB")


def make(num_blocks: int, num_requests: int, num_steps: int, seed: int) -> dict[str, Any]:
    """A run of at most num_steps steps, with shared prefixes, forks, aborts and a pool that runs out."""
    draw = random.Random(seed)
    config = SchedulerConfig(
        num_blocks=num_blocks,
        block_size=16,
        max_num_seqs=12,
        max_num_batched_tokens=96,
        max_model_len=1024,
        vocab_size=len(VOCABULARY),
        kv_cache_dtype="bfloat16",
        kv_bytes_per_block=24576,
    )
    scheduler = Scheduler(config, Policy())
    start = scheduler.snapshot()
    shared = [[draw.randrange(len(VOCABULARY)) for _ in range(48)] for _ in range(2)]
    pending = sorted(draw.uniform(0.0, 1.3e-3 * num_steps) for _ in range(num_requests))
    records: list[StepRecord] = []
    snapshots: list[tuple[int, Snapshot]] = []
    clock, made = 0.0, 0
    while len(records) < num_steps and (pending or scheduler.has_unfinished()):
        if not scheduler.has_unfinished() and pending[0] > clock:
            clock = pending[0]
        while pending and pending[0] <= clock:
            prompt = [draw.randrange(len(VOCABULARY)) for _ in range(draw.randint(6, 140))]
            if draw.random() < 0.45:
                prompt = draw.choice(shared) + prompt
            params = SamplingParams(
                n=3 if made % 9 == 4 else 1,
                max_tokens=draw.randint(24, 190),
                logprobs=4,
            )
            label = text(prompt)[:48]
            scheduler.add_request(f"r{made}", prompt, params, arrival_time=pending.pop(0), label=label)
            made += 1
        if draw.random() < 0.003 and scheduler.running:
            scheduler.abort([scheduler.running[-1].request_id])
        plan = scheduler.schedule()
        sampled = {item.request_id: token(draw) for item in plan.scheduled if item.sample}
        scheduler.update(plan, sampled, {}, {})
        times = StepTimes(
            draw.uniform(4e-5, 9e-5),
            draw.uniform(1e-4, 2e-4),
            1.2e-3 + 3.5e-5 * plan.num_scheduled_tokens + draw.uniform(0, 4e-4),
            draw.uniform(2e-4, 5e-4),
            draw.uniform(5e-5, 1.2e-4),
        )
        records.append(scheduler.record(plan, clock, times))
        clock += sum(times) + 5e-5
        if len(records) % 50 == 47:
            records += turn_pool_knob(scheduler, num_blocks, len(records) > num_steps * 2 // 3, clock)
            clock += 2e-3
        if len(records) % 50 in (1, 48):
            snapshots.append((records[-1].step, scheduler.snapshot()))
    snapshots.append((records[-1].step, scheduler.snapshot()))
    records = [rounded(record) for record in records]
    trace = Trace(start, len(records), engine_info(config))
    for record in records:
        trace.append(record)
    return {
        "engine": engine_info(config),
        "payload": {
            "snapshot": plain(start),
            # Each written as if it were the first of a frame, so that a frame may begin with any of them.
            "records": [record for r in records for record in records_to_json([r])],
            "texts": dict(enumerate(VOCABULARY)),
            "status": status(config, scheduler, clock, records[-1].step),
        },
        "frame": records_to_json(records[:FRAME_STEPS]),
        "latency": latency(records),
        "kernels": kernels(records),
        "snapshots": [[step, plain(snapshot)] for step, snapshot in snapshots],
        "preview": preview(workload_from_recipe({"urgent_fraction": 0.3}, len(VOCABULARY))),
        "comparison": compare(trace, simulate(trace, max_num_seqs=4, scheduling_policy="sjf")).to_json(),
        "explained": sorted({(tuple(d), explain(d)) for r in records for d in r.decisions})[::7],
        "why": {name: explain_life(life).to_json() for name, life in lives_of(records).items()},
    }


def rounded(record: StepRecord) -> StepRecord:
    """The record with its times as the page gets them, so that both sides measure the same."""
    return RecordReader().from_json(RecordWriter().to_json(record))


def latency(records: list[StepRecord]) -> dict[str, Any]:
    """The latencies as the Python side counts them, for the views to be held to."""
    measured = measure(records)
    samples = {
        "ttft": [m.ttft for m in measured.values() if m.ttft is not None],
        "itl": [gap for m in measured.values() for gap in m.itl],
        "e2e": [m.e2e for m in measured.values() if m.e2e is not None],
    }
    found = {}
    for name, values in samples.items():
        edge, bins = histogram(values, 24)
        found[name] = {"percentiles": [percentile(values, q) for q in (50, 95, 99)], "edge": edge, "bins": bins}
    slo = Slo(*[percentile(samples[name], 80) for name in ("ttft", "itl", "e2e")])
    good = goodput(records, slo, measured)
    told = {"slo": plain(slo), "met": good.met, "ended": good.ended, "per_second": good.per_second}
    return {"samples": found, **told}


def kernels(records: list[StepRecord]) -> list[Any]:
    """[step, [[part, bytes, operations, limit in s, bound]], share of it] of some steps, as llm.roofline() has them."""
    found = []
    for record in records[::23]:
        if record.num_scheduled_tokens:
            parts = make_roofline(record, MODEL, WEIGHTS, dict.fromkeys((MATRICES, HEAD, ATTENTION), 1.0), LIMITS).parts
            rows = [[part.name, *(part.work or ()), part.limit_seconds, part.bound] for part in parts]
            found.append([record.step, rows, parts[-1].reached])
    return found


def turn_pool_knob(scheduler: Scheduler, num_blocks: int, small_blocks: bool, clock: float) -> list[StepRecord]:
    """Shrink the pool as far as the live requests allow, or grow it back; late in the run with smaller blocks."""
    old = scheduler.config
    size = 8 if small_blocks else 16
    full = num_blocks * 16 // size
    # 376 tokens: the longest request that main() makes.
    blocks = full if old.num_blocks < full else max(full // 2, 376 // size)
    changes = [SettingChange("num_gpu_blocks_override", str(blocks))]
    if size != old.block_size:
        changes.append(SettingChange("block_size", str(size)))
    pool = PoolShape(blocks, size, old.kv_cache_dtype, old.kv_bytes_per_block * size // old.block_size)
    scheduler.change_pool(old.with_pool(pool), setting_text(changes), recompute=size != old.block_size)
    return [scheduler.record(scheduler.hold(), clock, StepTimes(1e-4, 1.5e-3, 0, 0, 1e-4), tuple(changes))]


def token(draw: random.Random) -> SampledToken:
    """A made-up token with a plausible distribution around it."""
    ids = draw.sample(range(len(VOCABULARY)), 4)
    first = draw.betavariate(2.5, 1.2)
    shares = [first, (1 - first) * 0.55, (1 - first) * 0.25, (1 - first) * 0.1]
    logprobs = [math.log(max(s, 1e-6)) for s in shares]
    chosen = draw.choices(range(4), shares)[0]
    alternatives = tuple(sorted(zip(ids, logprobs, strict=True), key=lambda a: -a[1]))
    return SampledToken(ids[chosen], logprobs[chosen], alternatives)


def text(token_ids: list[int]) -> str:
    return "".join(VOCABULARY[t] for t in token_ids).strip().replace("\n", " ")


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as an object whose NamedTuples JSON turns into arrays."""
    found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for name, v in found.items()}


def engine_info(config: SchedulerConfig) -> dict[str, Any]:
    return {
        "engine_id": "demo",
        "model": "bundled tiny stories model",
        "architecture": "LlamaForCausalLM",
        "backend": "decoder",
        "device": "cpu",
        "dtype": "bfloat16",
        "max_model_len": config.max_model_len,
        "vocab_size": config.vocab_size,
        "num_parameters": 4_600_000,
        "num_layers": 6,
        "weight_bytes": 9_200_000,
        "settings": {
            "dtype": ["auto", "bfloat16"],
            "max_num_batched_tokens": ["None", str(config.max_num_batched_tokens)],
            "num_gpu_blocks_override": [str(config.num_blocks), str(config.num_blocks)],
        },
        "starters": [
            {"title": "Once upon a time", "text": "Once upon a time, there was a little girl named Lily. She loved to"},
            {"title": "The brave mouse", "text": "Once upon a time, in a small house, there lived a brave mouse named"},
            {"title": "Lost in the park", "text": "One day, Tom and his dog Spot went to the big park. Tom could not"},
        ],
    }


def status(config: SchedulerConfig, scheduler: Scheduler, clock: float, step: int) -> dict[str, Any]:
    return {
        "state": "idle",
        "paused_at": None,
        "speed": None,
        "step": step,
        "time": clock,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "scheduling_policy": scheduler.policy.name,
        "policies": [*POLICIES],
        "knobs": {
            "max_num_seqs": [config.max_num_seqs] * 2,
            "max_num_batched_tokens": [None, config.max_num_batched_tokens],
            "enable_prefix_caching": [True, config.enable_prefix_caching],
            "scheduling_policy": [scheduler.policy.name] * 2,
            "gpu_memory_utilization": [0.9, 0.9],
            "kv_cache_memory_bytes": [None, config.num_blocks * config.kv_bytes_per_block],
            "num_gpu_blocks_override": [config.num_blocks] * 2,
            "block_size": [config.block_size] * 2,
            "kv_cache_dtype": ["auto", config.kv_cache_dtype],
            "quantization": [None, None],
            "sparsity": [None, None],
        },
        "num_running": len(scheduler.running),
        "num_waiting": len(scheduler.waiting),
        "work": work_sizes(MODEL, WEIGHTS)._asdict(),
        "limits": LIMITS._asdict(),
        "memory": [
            {"name": "Weights", "kind": "weights", "bytes": 9_200_000},
            {"name": "KV cache in use", "kind": "kv_used", "bytes": 0},
            {"name": "KV cache, cached", "kind": "kv_cached", "bytes": 0},
            {"name": "KV cache, free", "kind": "kv_free", "bytes": config.num_blocks * 24576},
            {"name": "Workspace", "kind": "workspace", "bytes": 3_100_000},
            {"name": "Python, torch and the rest", "kind": "other", "bytes": 412_000_000},
        ],
        "dropped_steps": 0,
        "message": None,
    }


if __name__ == "__main__":
    main()
