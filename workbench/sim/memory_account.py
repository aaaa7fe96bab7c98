"""How much KV memory a run held and how much of it stored tokens: in blocks, and had it been allocated in one piece.

The contiguous schemes are those that the PagedAttention paper (Kwon et al. 2023) compares with. They are accounts of
the same run: what such an allocator would have reserved for the requests that ran. Not counted against them: gaps
between reservations, and that fewer requests would have fitted.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import SchedulerOutput

SCHEMES = ("paged", "contiguous_exact", "contiguous_pow2", "contiguous_max")


class MemorySample(NamedTuple):
    """KV slots (one holds one token) during one step. time and seconds: when it began, how long it lasted.

    paged_held: slots of all blocks in use, shared ones once. paged_used: of those, slots with a token.
    used: tokens stored, counted for each request apart, as nothing is shared without blocks.
    contiguous_exact: prompt and true output reserved for each running request. contiguous_pow2: prompt and the next
    power of two of the output. contiguous_max: max_model_len.
    """

    time: float
    seconds: float
    paged_held: int
    paged_used: int
    used: int
    contiguous_exact: int
    contiguous_pow2: int
    contiguous_max: int


class MemoryAccount:
    """Samples of a run, and the waste by scheme."""

    def __init__(self) -> None:
        self.samples: list[MemorySample] = []
        self._reserved: dict[str, tuple[int, int]] = {}  # request -> slots, exact and to the next power of two

    def add(
        self, scheduler: Scheduler, plan: SchedulerOutput, output_lens: dict[str, int], time: float, seconds: float
    ) -> None:
        """Look at a step after schedule() and before update(). output_lens: tokens that each sequence will make."""
        kv, size = scheduler.kv, scheduler.kv.block_size
        new = {item[0]: len(item[1]) for item in plan.scheduled}
        exact = pow2 = 0
        rows = []
        for request in scheduler.running:
            name, table = request.request_id, kv.tables[request.request_id]
            stored = request.num_computed_tokens + new.get(name, 0)
            rows.append((table, stored))
            reserved = self._reserved.get(name)
            if reserved is None:
                prompt, output = request.num_prompt_tokens, output_lens[name]
                reserved = self._reserved[name] = (prompt + output, prompt + next_power_of_two(output))
            exact += reserved[0]
            pow2 += reserved[1]
        held = (kv.pool.num_blocks - kv.pool.num_free) * size
        used, empty = used_and_empty(rows, kv.pool.ref_counts, size)
        width = len(scheduler.running) * scheduler.config.max_model_len
        self.samples.append(MemorySample(time, seconds, held, held - empty, used, exact, pow2, width))

    def waste(self) -> dict[str, float]:
        """For each scheme the share of the held memory, averaged over time, that stored nothing."""
        return {scheme: wasted_share(self.samples, scheme) for scheme in SCHEMES}


def used_and_empty(rows: Iterable[tuple[Sequence[int], int]], ref_counts: Sequence[int], size: int) -> tuple[int, int]:
    """Tokens stored, each request's counted apart, and slots of held blocks that hold none.

    rows: a block table and its tokens for each running request. size: tokens a block.
    """
    used = empty = 0
    shared: dict[int, int] = {}  # last block that several tables end in -> its tokens
    for table, stored in rows:
        used += stored
        if ref_counts[table[-1]] == 1:
            empty += len(table) * size - stored  # only the end of a table can be
        else:
            shared[table[-1]] = max(shared.get(table[-1], 0), stored - (len(table) - 1) * size)
    return used, empty + sum(size - filled for filled in shared.values())


def wasted_share(samples: Sequence[MemorySample], scheme: str) -> float:
    """The share of a scheme's held memory, averaged over time, that stored nothing; 0 where nothing was held."""
    held = sum(held_by(s, scheme) * s.seconds for s in samples)
    used = sum((s.paged_used if scheme == "paged" else s.used) * s.seconds for s in samples)
    return 1.0 - used / held if held else 0.0


def held_by(sample: MemorySample, scheme: str) -> int:
    """Slots that a scheme holds in a sample."""
    return {
        "paged": sample.paged_held,
        "contiguous_exact": sample.contiguous_exact,
        "contiguous_pow2": sample.contiguous_pow2,
        "contiguous_max": sample.contiguous_max,
    }[scheme]


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is not below number."""
    return 1 << (number - 1).bit_length()
