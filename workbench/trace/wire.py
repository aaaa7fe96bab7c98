"""Records and snapshots as JSON. Named tuples become arrays in field order, as extension/ has them in its types."""

import json
import math
from collections.abc import Mapping
from typing import Any

from workbench.core.records import (
    Arrival,
    BlockEvent,
    BlockEventKind,
    Finished,
    RequestState,
    Sampled,
    SettingChange,
    Snapshot,
    StepRecord,
    StepTimes,
)
from workbench.core.rows import Packer
from workbench.core.scheduler_output import Action, Decision, Reason

_TIME_DIGITS = 7  # a tenth of a microsecond


def record_to_json(record: StepRecord) -> dict[str, Any]:
    """A record as a JSON-ready mapping with StepRecord's field names."""
    return {
        "step": record.step,
        "time": round(record.time, _TIME_DIGITS),
        "times": StepTimes(*[round(seconds, _TIME_DIGITS) for seconds in record.times]),
        "arrivals": record.arrivals,
        "decisions": list(record.decisions),
        "block_events": record.block_events,
        "sampled": list(record.sampled),
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


def record_from_json(value: Mapping[str, Any], packers: tuple[Packer, Packer] | None = None) -> StepRecord:
    """What record_to_json gave, its times rounded. Raises KeyError, TypeError or ValueError for anything else.

    packers: for decisions and sampled tokens, so that records read one after another share what is equal.
    """
    of_decisions, of_sampled = packers or (Packer(), Packer())
    return StepRecord(
        step=int(value["step"]),
        time=float(value["time"]),
        times=StepTimes(*map(float, value["times"])),
        arrivals=tuple(Arrival(*_tuples(item)) for item in value["arrivals"]),
        decisions=of_decisions.decisions(
            [Decision(item[0], Action(item[1]), Reason(item[2]), *item[3:]) for item in value["decisions"]]
        ),
        block_events=tuple(BlockEvent(BlockEventKind(item[0]), *item[1:]) for item in value["block_events"]),
        sampled=of_sampled.sampled([Sampled(*_tuples(item)) for item in value["sampled"]]),
        finished=tuple(Finished(*item) for item in value["finished"]),
        changes=tuple(SettingChange(*item) for item in value["changes"]),
        num_scheduled_tokens=int(value["num_scheduled_tokens"]),
        token_budget=int(value["token_budget"]),
        max_num_seqs=int(value["max_num_seqs"]),
        num_free_blocks=int(value["num_free_blocks"]),
    )


def snapshot_from_json(value: Mapping[str, Any]) -> Snapshot:
    """What snapshot_to_json gave. Raises KeyError, TypeError or ValueError for anything else."""
    return Snapshot(
        step=int(value["step"]),
        num_blocks=int(value["num_blocks"]),
        block_size=int(value["block_size"]),
        block_tables={name: tuple(table) for name, table in value["block_tables"].items()},
        ref_counts=tuple(value["ref_counts"]),
        block_hashes=tuple(value["block_hashes"]),
        free_blocks=tuple(value["free_blocks"]),
        waiting=tuple(value["waiting"]),
        running=tuple(value["running"]),
        requests={name: RequestState(*_tuples(state)) for name, state in value["requests"].items()},
    )


def _tuples(value: Any) -> Any:
    """JSON arrays back to tuples, all the way down."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


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
