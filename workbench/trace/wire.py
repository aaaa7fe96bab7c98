"""Records and snapshots as JSON. Named tuples become arrays in field order, as extension/ has them in its types."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.config import PoolShape
from workbench.core.records import (
    Arrival,
    BlockEvent,
    BlockEventKind,
    Finished,
    RequestState,
    SettingChange,
    Snapshot,
    StepRecord,
    StepTimes,
)
from workbench.core.rows import Decisions, Packer, SampledTokens
from workbench.core.scheduler_output import Action, Decision, Reason

_TIME_DIGITS = 7  # a tenth of a microsecond
_DECODES, _NO_NUMBERS = [Action.DECODE, Reason.DECODE, 1], [0, 0, 0, ""]


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
        "pool": record.pool,
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
        decisions=_decisions(value["decisions"], of_decisions),
        block_events=tuple(BlockEvent(BlockEventKind(item[0]), *item[1:]) for item in value["block_events"]),
        sampled=_sampled(value["sampled"], of_sampled),
        finished=tuple(Finished(*item) for item in value["finished"]),
        changes=tuple(SettingChange(*item) for item in value["changes"]),
        num_scheduled_tokens=int(value["num_scheduled_tokens"]),
        token_budget=int(value["token_budget"]),
        max_num_seqs=int(value["max_num_seqs"]),
        num_free_blocks=int(value["num_free_blocks"]),
        pool=PoolShape(*value["pool"]),
    )


def _decisions(rows: Sequence[Any], packer: Packer) -> Decisions:
    """Rows as Decisions, without a Decision for each that decodes."""
    noted = [None if row[1:4] == _DECODES and row[5:] == _NO_NUMBERS else _decision(row) for row in rows]
    ids = packer.ids([row[0] for row in rows])
    return Decisions(ids, [row[4] for row in rows], noted if any(noted) else ())


def _decision(row: Sequence[Any]) -> Decision:
    return Decision(row[0], Action(row[1]), Reason(row[2]), *row[3:])


def _sampled(rows: Sequence[Any], packer: Packer) -> SampledTokens:
    details = {i: (row[2], _tuples(row[3])) for i, row in enumerate(rows) if row[2] is not None}
    ids = packer.ids([row[0] for row in rows])
    return SampledTokens(ids, [row[1] for row in rows], [row[4] for row in rows], details)


def snapshot_from_json(value: Mapping[str, Any]) -> Snapshot:
    """What snapshot_to_json gave. Raises KeyError, TypeError or ValueError for anything else."""
    return Snapshot(
        step=int(value["step"]),
        pool=PoolShape(*value["pool"]),
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
