"""What a list of engines shows of each: one small dictionary of numbers read from the engine itself."""

from typing import Any

from workbench.core.records import StepRecord
from workbench.engine.client import EngineClient
from workbench.trace import Trace, TraceRangeError

RATE_SECONDS = 2.0


def engine_summary(client: EngineClient, ordinal: int) -> dict[str, Any]:
    """EngineSummary of extension/PROTOCOL.md. ordinal: the how manieth engine of its process, from 1."""
    core, status = client.loop.core, client.loop.status()
    pool, info = core.scheduler.kv.pool, core.trace.info
    running = status.state == "running"
    return {
        "engine_id": info["engine_id"],
        "ordinal": ordinal,
        "model": info["model"],
        "device": info["device"],
        "dtype": info["dtype"],
        "state": status.state,
        "message": status.message or status.stopped_by,
        "step": status.step,
        "tokens_per_second": tokens_per_second(core.trace, status.time) if running else 0.0,
        "num_running": status.num_running,
        "num_waiting": status.num_waiting,
        "num_used_blocks": pool.num_blocks - pool.num_free,
        "num_blocks": pool.num_blocks,
    }


def tokens_per_second(trace: Trace, now: float, window: float = RATE_SECONDS) -> float:
    """Tokens sampled in the steps that ended in the last `window` seconds, per second; as the views count them."""
    step, tokens, start = trace.last_step, 0, now
    while True:
        try:
            record = trace.record(step)
        except TraceRangeError:  # the oldest that is held, or one that was dropped just now
            break
        if _end(record) < now - window:
            break
        tokens += len(record.sampled)
        start = record.time
        step -= 1
    return tokens / max(min(window, now - start), 1e-3) if tokens else 0.0


def _end(record: StepRecord) -> float:
    times = record.times
    return record.time + times.schedule + times.prepare + times.forward + times.sample + times.update
