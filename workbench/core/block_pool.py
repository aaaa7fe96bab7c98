"""Physical KV blocks: reference counts, the free list in eviction order, and the prefix cache's index.

Idea: PagedAttention (Kwon et al. 2023) for the blocks, vLLM's free-block queue for O(1) removal from the middle.

Eviction order, front first: blocks with no cached content, latest freed first; then cached blocks, least recently
freed first, and of one sequence its tail before its head (a prefix is worth more than what follows it).
"""

from workbench.core.errors import WorkbenchError
from workbench.core.frozen import PAGE, BlockPage, FrozenBlocks
from workbench.core.records import BlockEvent, BlockEventKind

_ALLOCATE, _SHARE, _FREE = BlockEventKind.ALLOCATE, BlockEventKind.SHARE, BlockEventKind.FREE
_CACHE, _EVICT, _COPY = BlockEventKind.CACHE, BlockEventKind.EVICT, BlockEventKind.COPY
_MOVE, _RESIZE = BlockEventKind.MOVE, BlockEventKind.RESIZE


class BlockPool:
    """`num_blocks` blocks, identified by 0 .. num_blocks - 1. Every change is appended to `events`.

    The free list is doubly linked through two lists of ints, with num_blocks as the sentinel. Whatever changes a
    count, a hash or a link forward notes the page, for `freeze`.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self.num_cached_free = 0  # of the free ones, those whose content can still be found
        self.ref_counts = [0] * num_blocks
        self.hashes: list[str | None] = [None] * num_blocks
        self.cached: dict[str, int] = {}
        self.events: list[BlockEvent] = []
        self._next: list[int] = [*range(1, num_blocks + 1), 0]
        self._prev: list[int] = [num_blocks, *range(num_blocks)]
        self._pages: list[BlockPage | None] = []
        self._changed: set[int] = set()  # numbers of pages
        self._change_all()

    def free_blocks(self) -> list[int]:
        """Ids of the free blocks, next to be reused first."""
        order, block = [], self._next[self.num_blocks]
        while block != self.num_blocks:
            order.append(block)
            block = self._next[block]
        return order

    def freeze(self) -> FrozenBlocks:
        """The present state as a value. Copies the pages that changed since the last time."""
        for number in self._changed:
            part = slice(number * PAGE, (number + 1) * PAGE)
            self._pages[number] = BlockPage(
                tuple(self.ref_counts[part]), tuple(self.hashes[part]), tuple(self._next[part])
            )
        self._changed.clear()
        return FrozenBlocks(self.num_blocks, tuple(page for page in self._pages if page is not None))

    def allocate(self, request_id: str) -> int:
        """Take the front of the free list for request_id, forgetting what it had cached. The caller checks num_free."""
        block = self._take_front()
        self.events.append(BlockEvent(_ALLOCATE, block, request_id))
        return block

    def copy_on_write(self, request_id: str, shared: int) -> int:
        """Take a block to stand for `shared` in request_id's table, and drop that table's reference to `shared`."""
        block = self._take_front()
        self.events.append(BlockEvent(_COPY, block, request_id, str(shared)))
        self._drop_reference(shared)
        return block

    def share(self, block: int, request_id: str) -> None:
        """Add a reference to a block that holds what request_id needs (prefix hit or fork)."""
        if self.ref_counts[block] == 0:
            self._unlink(block)
            self.num_cached_free -= 1
        self.ref_counts[block] += 1
        self._changed.add(block // PAGE)
        self.events.append(BlockEvent(_SHARE, block, request_id))

    def free(self, block: int, request_id: str) -> None:
        """Drop request_id's reference; the last one puts the block on the free list."""
        self.events.append(BlockEvent(_FREE, block, request_id))
        self._drop_reference(block)

    def cache(self, block: int, block_hash: str) -> None:
        """Make a full block findable by its hash. A second block with the same content stays anonymous."""
        if self.hashes[block] is None and block_hash not in self.cached:
            self.hashes[block] = block_hash
            self.cached[block_hash] = block
            self._changed.add(block // PAGE)
            self.events.append(BlockEvent(_CACHE, block, "", block_hash))

    def reset_cache(self) -> None:
        """Forget all cached content, free or in use; no block changes hands."""
        for block in list(self.cached.values()):
            self._evict(block)
            if self.ref_counts[block] == 0:
                self._unlink(block)
                self._link_front(block)
                self.num_cached_free -= 1

    def resize(self, num_blocks: int) -> dict[int, int]:
        """Grow or shrink to num_blocks; returns the blocks that moved, old id -> new id.

        A pool that shrinks gives up the blocks that would be reused next: empty ones, then the least recently freed
        cached ones. What stays and has too high an id takes over the place of a lower one that goes. The caller has
        checked that enough blocks are free.
        """
        order, goes = self.free_blocks(), self.num_blocks - num_blocks
        if goes > len(order):
            raise WorkbenchError(f"{goes} blocks should leave the pool and {len(order)} are free")
        moves: dict[int, int] = {}
        if goes > 0:
            leaving = order[:goes]
            for block in leaving:
                if self.hashes[block] is not None:
                    self._evict(block)
                    self.num_cached_free -= 1
            vacant = iter(sorted(block for block in leaving if block < num_blocks))
            gone = set(leaving)
            moves = {block: next(vacant) for block in range(num_blocks, self.num_blocks) if block not in gone}
            for block, place in moves.items():
                self._move(block, place)
            order = [moves.get(block, block) for block in order[goes:]]
            del self.ref_counts[num_blocks:], self.hashes[num_blocks:]
        else:
            order = [*range(self.num_blocks, num_blocks), *order]
            self.ref_counts += [0] * -goes
            self.hashes += [None] * -goes
        if goes:
            self.num_blocks = num_blocks
            self.events.append(BlockEvent(_RESIZE, num_blocks))
            self._relink(order)
            self._change_all()
        return moves

    def check_invariants(self) -> None:
        """Raise WorkbenchError if the books do not balance. Used by tests after every step."""
        free = self.free_blocks()
        if len(free) != self.num_free or len(set(free)) != len(free):
            raise WorkbenchError(
                f"free list has {len(free)} blocks, {len(set(free))} distinct, counted {self.num_free}"
            )
        if sorted(free) != [b for b, refs in enumerate(self.ref_counts) if refs == 0]:
            raise WorkbenchError("the free list is not the blocks with reference count 0")
        if {h: b for b, h in enumerate(self.hashes) if h is not None} != self.cached:
            raise WorkbenchError("the prefix cache's index and the blocks' hashes differ")
        hashed = [self.hashes[b] is not None for b in free]
        if sum(hashed) != self.num_cached_free:
            raise WorkbenchError(f"{sum(hashed)} free blocks are cached, counted {self.num_cached_free}")
        if hashed != sorted(hashed):
            raise WorkbenchError("a cached block would be evicted before an empty one")

    def _take_front(self) -> int:
        block = self._next[self.num_blocks]
        if block == self.num_blocks:
            raise WorkbenchError("no free block; the scheduler checks num_free first")
        if self.hashes[block] is not None:
            self._evict(block)
            self.num_cached_free -= 1
        self._unlink(block)
        self.ref_counts[block] = 1
        self._changed.add(block // PAGE)
        return block

    def _drop_reference(self, block: int) -> None:
        if self.ref_counts[block] < 1:
            raise WorkbenchError(f"block {block} is freed more often than it was taken")
        self.ref_counts[block] -= 1
        self._changed.add(block // PAGE)
        if self.ref_counts[block] == 0:
            if self.hashes[block] is None:
                self._link_front(block)
            else:
                self._link_back(block)
                self.num_cached_free += 1

    def _evict(self, block: int) -> None:
        block_hash = self.hashes[block]
        if block_hash is not None:
            del self.cached[block_hash]
            self.hashes[block] = None
            self._changed.add(block // PAGE)
            self.events.append(BlockEvent(_EVICT, block, "", block_hash))

    def _move(self, block: int, place: int) -> None:
        self.ref_counts[place], self.hashes[place] = self.ref_counts[block], self.hashes[block]
        if (block_hash := self.hashes[block]) is not None:
            self.cached[block_hash] = place
        self.events.append(BlockEvent(_MOVE, place, "", str(block)))

    def _relink(self, order: list[int]) -> None:
        self._next, self._prev = [0] * (self.num_blocks + 1), [0] * (self.num_blocks + 1)
        self._next[self.num_blocks] = self._prev[self.num_blocks] = self.num_blocks
        self.num_free = 0
        for block in order:
            self._link_back(block)

    def _change_all(self) -> None:
        num_pages = self.num_blocks // PAGE + 1  # the links have one entry more
        self._pages, self._changed = [None] * num_pages, set(range(num_pages))

    def _unlink(self, block: int) -> None:
        before, after = self._prev[block], self._next[block]
        self._next[before] = after
        self._prev[after] = before
        self._changed.add(before // PAGE)
        self.num_free -= 1

    def _link_front(self, block: int) -> None:
        self._link(block, self.num_blocks, self._next[self.num_blocks])

    def _link_back(self, block: int) -> None:
        self._link(block, self._prev[self.num_blocks], self.num_blocks)

    def _link(self, block: int, before: int, after: int) -> None:
        self._prev[block], self._next[block] = before, after
        self._next[before] = block
        self._prev[after] = block
        self._changed.update((before // PAGE, block // PAGE))
        self.num_free += 1
