"""Records and snapshots as JSON. Named tuples become arrays in field order, as extension/ has them in its types.

Records are written one after another, and most say of their requests what the one before said: who decodes, who waits
for what. Only what is new is written (extension/PROTOCOL.md has the form), so that a page that is sent a few hundred
steps a second costs the engine little.
"""

import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from workbench.core.config import PoolShape
from workbench.core.records import (
    SCHEMA_VERSION,
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
from workbench.core.rows import Decisions, Packer, SampledTokens, as_decisions, as_sampled
from workbench.core.scheduler_output import Action, Decision, Reason

_TICKS = 1e7  # a second: times are told to a tenth of a microsecond
_DECODES, _NO_NUMBERS = [Action.DECODE, Reason.DECODE, 1], [0, 0, 0, ""]
_ROWS_SCHEMA = 2  # the last one with decisions and sampled tokens as rows


class RecordWriter:
    """Writes records that are read in the same order, from the first one on, by one RecordReader."""

    def __init__(self) -> None:
        self._deciding: tuple[str, ...] | None = None
        self._noted: tuple[Decision | None, ...] | None = None
        self._sampling: tuple[str, ...] | None = None

    def to_json(self, record: StepRecord) -> dict[str, Any]:
        """A record as a JSON-ready mapping with StepRecord's field names."""
        return {
            "step": record.step,
            "time": _rounded(record.time),
            "times": list(map(_rounded, record.times)),
            "arrivals": record.arrivals,
            "decisions": self._decisions(as_decisions(record.decisions)),
            "block_events": record.block_events,
            "sampled": self._sampled(as_sampled(record.sampled)),
            "finished": record.finished,
            "changes": record.changes,
            "num_scheduled_tokens": record.num_scheduled_tokens,
            "token_budget": record.token_budget,
            "max_num_seqs": record.max_num_seqs,
            "num_free_blocks": record.num_free_blocks,
            "pool": record.pool,
        }

    def columns(self, value: Any) -> Any:
        """What msgspec cannot write by itself, when it goes through records in their order."""
        if isinstance(value, Decisions):
            return self._decisions(value)
        if isinstance(value, SampledTokens):
            return self._sampled(value)
        return _plain_number(value)

    def _decisions(self, rows: Decisions) -> list[Any]:
        """[ids, computed tokens, [[place, Decision] of those that do not just decode]]; null: as it was."""
        ids, num_computed, noted = rows.columns()
        same_ids, same_noted = ids is self._deciding or ids == self._deciding, noted == self._noted
        self._deciding, self._noted = ids, noted
        told = None if same_noted else [(place, row) for place, row in enumerate(noted) if row is not None]
        return [None if same_ids else ids, num_computed, told]

    def _sampled(self, rows: SampledTokens) -> list[Any]:
        """[ids, tokens, positions, [[place, logprob, alternatives] where asked for]]; null: as it was."""
        ids, token_ids, positions, logprobs = rows.columns()
        same_ids = ids is self._sampling or ids == self._sampling
        self._sampling = ids
        told = [(place, *found) for place, found in logprobs.items()]
        return [None if same_ids else ids, token_ids, positions, told]


def _rounded(seconds: float) -> float:
    return int(seconds * _TICKS + 0.5) / _TICKS  # round() takes four times as long


def records_to_json(records: Iterable[StepRecord]) -> list[dict[str, Any]]:
    """Records that stand together in one message or page."""
    return list(map(RecordWriter().to_json, records))


def in_columns(records: Iterable[StepRecord]) -> list[StepRecord]:
    """These records with their rows as columns, for dumps to write them itself."""
    return [record if _has_columns(record) else _with_columns(record) for record in records]


def _has_columns(record: StepRecord) -> bool:
    return isinstance(record.decisions, Decisions) and isinstance(record.sampled, SampledTokens)


def _with_columns(record: StepRecord) -> StepRecord:
    return replace(record, decisions=as_decisions(record.decisions), sampled=as_sampled(record.sampled))


class RecordReader:
    """Reads what a RecordWriter wrote, in its order. What stays the same from record to record is shared."""

    def __init__(self, schema_version: int = SCHEMA_VERSION) -> None:
        self._rows = schema_version <= _ROWS_SCHEMA
        self._of_decisions, self._of_sampled = Packer(), Packer()
        self._deciding: tuple[str, ...] = ()
        self._noted: tuple[Decision | None, ...] = ()
        self._sampling: tuple[str, ...] = ()

    def from_json(self, value: Mapping[str, Any]) -> StepRecord:
        """The record, its times rounded. Raises KeyError, TypeError or ValueError for anything else than one."""
        decided, sampled = value["decisions"], value["sampled"]
        return StepRecord(
            step=int(value["step"]),
            time=float(value["time"]),
            times=StepTimes(*map(float, value["times"])),
            arrivals=tuple(Arrival(*_tuples(item)) for item in value["arrivals"]),
            decisions=_decisions_of_rows(decided, self._of_decisions) if self._rows else self._decisions(*decided),
            block_events=tuple(BlockEvent(BlockEventKind(item[0]), *item[1:]) for item in value["block_events"]),
            sampled=_sampled_of_rows(sampled, self._of_sampled) if self._rows else self._sampled(*sampled),
            finished=tuple(Finished(*item) for item in value["finished"]),
            changes=tuple(SettingChange(*item) for item in value["changes"]),
            num_scheduled_tokens=int(value["num_scheduled_tokens"]),
            token_budget=int(value["token_budget"]),
            max_num_seqs=int(value["max_num_seqs"]),
            num_free_blocks=int(value["num_free_blocks"]),
            pool=PoolShape(*value["pool"]),
        )

    def _decisions(self, ids: Any, num_computed: Any, told: Any) -> Decisions:
        if ids is not None:
            self._deciding = tuple(ids)
        if told is not None:
            noted: list[Decision | None] = [None] * len(self._deciding)
            for place, row in told:
                noted[place] = _decision(row)
            self._noted = tuple(noted) if told else ()
        _equally_long(self._deciding, num_computed, self._noted or num_computed)
        return Decisions(self._deciding, num_computed, self._noted)

    def _sampled(self, ids: Any, token_ids: Any, positions: Any, told: Any) -> SampledTokens:
        if ids is not None:
            self._sampling = tuple(ids)
        _equally_long(self._sampling, token_ids, positions)
        logprobs = {place: (logprob, _tuples(alternatives)) for place, logprob, alternatives in told}
        return SampledTokens(self._sampling, token_ids, positions, logprobs)


def _equally_long(*columns: Sequence[Any]) -> None:
    if len(set(map(len, columns))) > 1:
        raise ValueError("columns of one record differ in length")


def _decisions_of_rows(rows: Sequence[Any], packer: Packer) -> Decisions:
    """Rows as Decisions, without a Decision for each that decodes."""
    noted = [None if row[1:4] == _DECODES and row[5:] == _NO_NUMBERS else _decision(row) for row in rows]
    ids = packer.ids([row[0] for row in rows])
    return Decisions(ids, [row[4] for row in rows], noted if any(noted) else ())


def _decision(row: Sequence[Any]) -> Decision:
    return Decision(row[0], Action(row[1]), Reason(row[2]), *row[3:])


def _sampled_of_rows(rows: Sequence[Any], packer: Packer) -> SampledTokens:
    details = {i: (row[2], _tuples(row[3])) for i, row in enumerate(rows) if row[2] is not None}
    ids = packer.ids([row[0] for row in rows])
    return SampledTokens(ids, [row[1] for row in rows], [row[4] for row in rows], details)


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as a JSON-ready mapping with Snapshot's field names."""
    return {name: getattr(snapshot, name) for name in Snapshot.__slots__}


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
    """UTF-8 JSON that every parser reads: numbers that JSON cannot write (infinite log-probabilities) become null.

    Records in columns are written as records_to_json has them, in half the time and with all digits of their
    times. Raises TypeError for anything that is not data.
    """
    try:
        return msgspec.json.encode(value, enc_hook=RecordWriter().columns)
    except UnicodeEncodeError:  # half of a surrogate pair: a text may hold it, UTF-8 cannot
        plain = msgspec.to_builtins(value, enc_hook=RecordWriter().columns, str_keys=True)
        return msgspec.json.encode(_encodable(plain))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return list(map(_encodable, value)) if isinstance(value, (list, tuple)) else value


def _plain_number(value: Any) -> int | float:
    """A number of numpy's kind as Python's own."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
