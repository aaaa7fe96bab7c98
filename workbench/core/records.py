"""The record of a run: one StepRecord per step, from which every view, replay and export is made.

Records are plain values (strings, numbers, tuples), so that they can be saved, sent and compared. The state after any
step follows from the state before it and the step's record; trace/replay.py holds that rule.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from workbench.core.config import PoolShape
from workbench.core.reasons import explain
from workbench.core.scheduler_output import Action, Decision
from workbench.core.units import time_text

SCHEMA_VERSION = 3  # 2 had decisions and sampled tokens as rows; 1 had no pool in its records: it could not change


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


@dataclass(frozen=True, slots=True, repr=False)
class StepRecord:
    """Everything that a step decided and did. time: seconds on the engine's clock when the step began.

    token_budget, max_num_seqs and pool are the limits in force; num_free_blocks is counted after the step. Its repr is
    one line; print() adds what was decided about each request.
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

    def sentences(self) -> list[tuple[tuple[str, ...], str]]:
        """What was decided, in plain English: requests of which the same holds, and the sentence."""
        groups: dict[str, list[str]] = {}
        for decision in self.decisions:
            groups.setdefault(explain(decision), []).append(decision.request_id)
        return [(tuple(ids), sentence) for sentence, ids in groups.items()]

    def __repr__(self) -> str:
        counts = Counter(decision.action for decision in self.decisions)
        did = [f"{counts[action]} {words}" for action, words in _ACTION_WORDS.items() if counts[action]]
        return (
            f"StepRecord(step {self.step}: {', '.join(did) or 'no request'}; {self.num_scheduled_tokens:,} of "
            f"{self.token_budget:,} tokens; {self.num_free_blocks:,} of {self.pool.num_blocks:,} blocks free; "
            f"{time_text(self.duration)})"
        )

    def __str__(self) -> str:
        return "\n".join([repr(self), *(f"  {some_ids(ids)}: {sentence}" for ids, sentence in self.sentences())])


_ACTION_WORDS = {
    Action.PREFILL: "prefilling",
    Action.DECODE: "decoding",
    Action.WAIT: "waiting",
    Action.PREEMPT: "preempted",
}


def some_ids(ids: Sequence[object], most: int = 8) -> str:
    """ "r1 r2 r3", or the first few and how many more there are."""
    more = f" and {len(ids) - most:,} more" if len(ids) > most else ""
    return " ".join(map(str, ids[:most])) + more


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


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        cached = sum(bool(self.block_hashes[block]) for block in self.free_blocks)
        used = self.num_blocks - len(self.free_blocks)
        head = (
            f"Snapshot(after step {self.step}: {len(self.running):,} running, {len(self.waiting):,} waiting; "
            f"{self.num_blocks:,} blocks of {self.block_size} tokens: {used:,} used, {cached:,} cached, "
            f"{len(self.free_blocks) - cached:,} empty)"
        )
        lines = [head]
        for name, ids in (("running", self.running), ("waiting", self.waiting)):
            for request_id in ids[:_MOST_LINES]:
                request = self.requests[request_id]
                known = len(request.prompt_token_ids) + len(request.output_token_ids)
                blocks = self.block_tables.get(request_id, ())
                where = f", in blocks {some_ids(blocks)}" if blocks else ""
                lines.append(
                    f"  {name} {request_id}: {request.num_computed_tokens:,} of {known:,} tokens computed{where}"
                )
            if len(ids) > _MOST_LINES:
                lines.append(f"  and {len(ids) - _MOST_LINES:,} more {name}")
        return "\n".join(lines)


_MOST_LINES = 20  # of requests in each queue
