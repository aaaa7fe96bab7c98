"""A state that is taken quickly on the engine's thread and written out by whoever looks at it.

Writing out a pool of a million blocks takes a tenth of a second. So the pool's columns are frozen in pages, and only
pages that changed since the last time are copied (copy-on-write, as operating systems do it for memory). The order of
the free blocks is kept as links from each to the next, and walked by the reader.
"""

from dataclasses import dataclass
from itertools import chain

from workbench.core.config import PoolShape
from workbench.core.records import RequestState, Snapshot

PAGE = 1024  # blocks


@dataclass(frozen=True, slots=True, eq=False)
class BlockPage:
    """PAGE blocks, or what is left of the pool. following: the free block after each one that is free."""

    ref_counts: tuple[int, ...]
    hashes: tuple[str | None, ...]
    following: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrozenBlocks:
    """All blocks of a pool. The links have one entry more: before the first free block and after the last one."""

    num_blocks: int
    pages: tuple[BlockPage, ...]

    def ref_counts(self) -> tuple[int, ...]:
        """One count per block."""
        return tuple(chain.from_iterable(page.ref_counts for page in self.pages))

    def hashes(self) -> tuple[str, ...]:
        """The hash of each cached block, "" for the others."""
        return tuple(found or "" for page in self.pages for found in page.hashes)

    def free(self) -> tuple[int, ...]:
        """Ids of the free blocks, next to be reused first."""
        following = list(chain.from_iterable(page.following for page in self.pages))
        order, block = [], following[self.num_blocks]
        while block != self.num_blocks:
            order.append(block)
            block = following[block]
        return tuple(order)


@dataclass(frozen=True, slots=True)
class FrozenState:
    """What `snapshot()` makes a Snapshot of; the fields that are not about blocks are a Snapshot's."""

    step: int
    pool: PoolShape
    blocks: FrozenBlocks
    block_tables: dict[str, tuple[int, ...]]
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    requests: dict[str, RequestState]

    def snapshot(self) -> Snapshot:
        """The same state, written out."""
        return Snapshot(
            step=self.step,
            pool=self.pool,
            block_tables=self.block_tables,
            ref_counts=self.blocks.ref_counts(),
            block_hashes=self.blocks.hashes(),
            free_blocks=self.blocks.free(),
            waiting=self.waiting,
            running=self.running,
            requests=self.requests,
        )
