"""Records and snapshots as JSON. Named tuples become arrays in field order, as extension/ has them in its types."""

import json
import math
from typing import Any

from workbench.core.records import Snapshot, StepRecord, StepTimes

_TIME_DIGITS = 7  # a tenth of a microsecond


def record_to_json(record: StepRecord) -> dict[str, Any]:
    """A record as a JSON-ready mapping with StepRecord's field names."""
    return {
        "step": record.step,
        "time": round(record.time, _TIME_DIGITS),
        "times": StepTimes(*[round(seconds, _TIME_DIGITS) for seconds in record.times]),
        "arrivals": record.arrivals,
        "decisions": record.decisions,
        "block_events": record.block_events,
        "sampled": record.sampled,
        "finished": record.finished,
        "changes": record.changes,
        "num_scheduled_tokens": record.num_scheduled_tokens,
        "token_budget": record.token_budget,
        "max_num_seqs": record.max_num_seqs,
        "num_free_blocks": record.num_free_blocks,
    }


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as a JSON-ready mapping with Snapshot's field names."""
    return {name: getattr(snapshot, name) for name in Snapshot.__slots__}


def dumps(value: Any) -> bytes:
    """UTF-8 JSON that every parser reads: numbers that JSON cannot write (infinite log-probabilities) become null."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", errors="replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
