"""The record of a run: one StepRecord per step, from which every view, replay and export is made.

Records are plain values (strings, numbers, tuples), so that they can be saved, sent and compared. The state after any
step follows from the state before it and the step's record; trace/replay.py holds that rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from workbench.core.config import PoolShape
from workbench.core.scheduler_output import Decision

SCHEMA_VERSION = 2  # 1 had no pool in its records: it could not change


class BlockEventKind(StrEnum):
    """What happened to a physical block. `other` of the event is given beside each kind."""

    ALLOCATE = "allocate"  # taken from the free list and appended to request_id's table, reference count 1
    SHARE = "share"  # appended to request_id's table, reference count + 1 (prefix hit or fork)
    FREE = "free"  # leaves request_id's table, reference count - 1; at 0 it joins the free list
    CACHE = "cache"  # is full and can be found by its hash; other = hash
    EVICT = "evict"  # cached content is forgotten, as the block is about to be reused; other = hash
    COPY = "copy"  # replaces block `other` (decimal) in request_id's table by copy-on-write, reference count 1
    MOVE = "move"  # an empty free block takes over all that block `other` was: content, owners, place in the free list
    RESIZE = "resize"  # the pool has `block` blocks from now on; new ones are empty and reused first, in their order


class BlockEvent(NamedTuple):
    """One change of one block, in the order in which it happened."""

    kind: BlockEventKind
    block: int
    request_id: str = ""
    other: str = ""


class Arrival(NamedTuple):
    """A request that joined the waiting queue before this step. Times in seconds on the engine's clock."""

    request_id: str
    time: float
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    priority: int
    parent_id: str  # the id that the user sees; differs from request_id when n > 1
    label: str  # the start of the prompt as text, for tables


class Sampled(NamedTuple):
    """A token that a request got in this step. logprob is None unless asked for; position: 0 for its first one."""

    request_id: str
    token_id: int
    logprob: float | None
    alternatives: tuple[tuple[int, float], ...]
    position: int


class Finished(NamedTuple):
    """A request that ended in this step, or was aborted before it. finish_reason: stop, length, abort, error."""

    request_id: str
    finish_reason: str
    detail: str


class SettingChange(NamedTuple):
    """A knob that was turned before this step; request_id names the request if it is one request's."""

    name: str
    value: str
    request_id: str = ""


def setting_text(changes: Sequence[SettingChange]) -> str:
    """ "block_size=32, kv_cache_dtype=int8": what decisions call a change of the pool by."""
    return ", ".join(f"{change.name}={change.value}" for change in changes)


class StepTimes(NamedTuple):
    """Seconds spent in each part of a step."""

    schedule: float
    prepare: float
    forward: float
    sample: float
    update: float


@dataclass(frozen=True, slots=True)
class StepRecord:
    """Everything that a step decided and did. time: seconds on the engine's clock when the step began.

    token_budget, max_num_seqs and pool are the limits in force; num_free_blocks is counted after the step.
    """

    step: int
    time: float
    times: StepTimes
    arrivals: tuple[Arrival, ...]
    decisions: Sequence[Decision]
    block_events: tuple[BlockEvent, ...]
    sampled: Sequence[Sampled]
    finished: tuple[Finished, ...]
    changes: tuple[SettingChange, ...]
    num_scheduled_tokens: int
    token_budget: int
    max_num_seqs: int
    num_free_blocks: int
    pool: PoolShape

    @property
    def duration(self) -> float:
        """Seconds from the start of the step to its end."""
        return sum(self.times)


class RequestState(NamedTuple):
    """A live request as it stands after a step."""

    request_id: str
    parent_id: str
    label: str
    priority: int
    arrival_time: float
    max_tokens: int
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]
    num_computed_tokens: int
    num_preemptions: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state after step `step` (-1: before the first one).

    block_tables: request id -> physical block ids in logical order, for requests that hold blocks.
    ref_counts: one count per physical block. block_hashes: hash of each cached block, "" for the others.
    free_blocks: ids with reference count 0, next to be reused first.
    waiting, running: request ids in order. requests: every live one, keyed by id.
    """

    step: int
    pool: PoolShape
    block_tables: dict[str, tuple[int, ...]]
    ref_counts: tuple[int, ...]
    block_hashes: tuple[str, ...]
    free_blocks: tuple[int, ...]
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    requests: dict[str, RequestState]

    @property
    def num_blocks(self) -> int:
        """Blocks of the pool."""
        return self.pool.num_blocks

    @property
    def block_size(self) -> int:
        """Tokens that a block holds."""
        return self.pool.block_size
