"""How much memory a trace's records take, estimated from what they hold; a test compares it with the interpreter's."""

from typing import Any

from workbench.core.frozen import FrozenState
from workbench.core.records import Snapshot, StepRecord
from workbench.core.rows import Decisions, SampledTokens

RECORD = 700  # bytes of a StepRecord with its times, columns and empty fields
ROW = 130  # of a named tuple with a number of its own
BLOCK_EVENT = 170  # of one with a hash, as half of them have
POINTER, NUMBER = 8, 36  # of an entry of a tuple; of a whole number that stands alone


def record_bytes(record: StepRecord, before: StepRecord | None) -> int:
    """Bytes of a record; what it shares with the one before it is not counted again."""
    size = RECORD + BLOCK_EVENT * len(record.block_events) + ROW * (len(record.finished) + len(record.changes))
    for arrival in record.arrivals:
        size += 2 * ROW + len(arrival.label) + (POINTER + NUMBER) * len(arrival.prompt_token_ids)
    size += _rows_bytes(record.decisions, None if before is None else before.decisions)
    return size + _rows_bytes(record.sampled, None if before is None else before.sampled)


def snapshot_bytes(snapshot: Snapshot) -> int:
    """Bytes of a snapshot, about: three columns over the blocks, the block tables, and the tokens made so far."""
    return 3 * POINTER * snapshot.num_blocks + _requests_bytes(snapshot)


def frozen_bytes(state: FrozenState) -> int:
    """Bytes of a frozen state without its pages of blocks, which others share, and with its list of them."""
    return POINTER * len(state.blocks.pages) + _requests_bytes(state)


def _requests_bytes(state: Snapshot | FrozenState) -> int:
    tables = sum(map(len, state.block_tables.values()))
    tokens = sum(len(request.output_token_ids) for request in state.requests.values())
    return RECORD + POINTER * (tables + tokens) + 3 * ROW * len(state.requests)


def _rows_bytes(rows: Any, before: Any) -> int:
    if not isinstance(rows, (Decisions, SampledTokens)):
        return ROW * len(rows)
    size = rows.num_bytes
    if not isinstance(before, type(rows)) or rows.request_ids is not before.request_ids:
        size += POINTER * len(rows)
    return size
