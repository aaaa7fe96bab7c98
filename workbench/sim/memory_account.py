"""How much KV memory a run held and how much of it stored tokens: in blocks, and had it been allocated in one piece.

The contiguous schemes are those that the PagedAttention paper (Kwon et al. 2023) compares with. They are accounts of
the same run: what such an allocator would have reserved for the requests that ran. Not counted against them: gaps
between reservations, and that fewer requests would have fitted.
"""

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

    def add(
        self, scheduler: Scheduler, plan: SchedulerOutput, output_lens: dict[str, int], time: float, seconds: float
    ) -> None:
        """Look at a step after schedule() and before update(). output_lens: tokens that each sequence will make."""
        kv, size = scheduler.kv, scheduler.kv.block_size
        new = {item.request_id: len(item.token_ids) for item in plan.scheduled}
        used = exact = pow2 = 0
        partial: dict[int, int] = {}  # block that is not full -> its tokens; only the ends of tables can be
        for request in scheduler.running:
            stored = request.num_computed_tokens + new.get(request.request_id, 0)
            used += stored
            exact += request.num_prompt_tokens + output_lens[request.request_id]
            pow2 += request.num_prompt_tokens + next_power_of_two(output_lens[request.request_id])
            _note_partial(partial, kv.tables[request.request_id], stored, size)
        held = kv.pool.num_blocks - kv.pool.num_free
        self.samples.append(
            MemorySample(
                time,
                seconds,
                held * size,
                (held - len(partial)) * size + sum(partial.values()),
                used,
                exact,
                pow2,
                len(scheduler.running) * scheduler.config.max_model_len,
            )
        )

    def waste(self) -> dict[str, float]:
        """For each scheme the share of the held memory, averaged over time, that stored nothing."""
        weights = [(s, s.seconds) for s in self.samples]
        shares = {}
        for scheme in SCHEMES:
            held = sum(held_by(s, scheme) * w for s, w in weights)
            used = sum((s.paged_used if scheme == "paged" else s.used) * w for s, w in weights)
            shares[scheme] = 1.0 - used / held if held else 0.0
        return shares


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


def _note_partial(partial: dict[int, int], table: list[int], stored: int, block_size: int) -> None:
    for index in range(stored // block_size, len(table)):
        filled = max(0, stored - index * block_size)
        partial[table[index]] = max(partial.get(table[index], 0), filled)
