"""Block tables: which physical blocks hold which request's tokens, and what a request can reuse.

Hash chain as in vLLM's automatic prefix caching: a full block's hash covers its tokens and the hash of the block
before it, so equal hashes mean equal whole prefixes.
"""

import hashlib
from array import array
from typing import NamedTuple

from workbench.core.block_pool import BlockPool
from workbench.core.errors import WorkbenchError
from workbench.core.request import Request
from workbench.core.scheduler_output import BlockCopy


class TableUpdate(NamedTuple):
    """Entries written into a request's block table from index block_start on, and copies to make first."""

    block_start: int
    block_ids: tuple[int, ...]
    copies: tuple[BlockCopy, ...]


class KVCacheManager:
    """Gives blocks to requests and takes them back. Queries (`blocks_needed`, `find_prefix`) change nothing."""

    def __init__(self, num_blocks: int, block_size: int, enable_prefix_caching: bool) -> None:
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.pool = BlockPool(num_blocks)
        self.tables: dict[str, list[int]] = {}

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that num_tokens tokens take."""
        return -(-num_tokens // self.block_size)

    def blocks_needed(self, request: Request, num_new_tokens: int) -> int:
        """Free blocks that the next num_new_tokens of a running request take; 0 means that allocate has no work."""
        table, start, size = self.tables[request.request_id], request.num_computed_tokens, self.block_size
        first = start // size
        copy = first < len(table) and self.pool.ref_counts[table[first]] > 1
        return -(-(start + num_new_tokens) // size) - len(table) + copy

    def room_of(self, request: Request) -> int:
        """Tokens that the request's blocks can hold."""
        return len(self.tables[request.request_id]) * self.block_size

    def find_prefix(self, request: Request) -> list[int]:
        """Cached blocks that hold the request's first tokens. At least one token is left to compute, for its logits."""
        if not self.enable_prefix_caching:
            return []
        self._extend_hashes(request, (request.num_tokens - 1) // self.block_size)
        found = []
        for block_hash in request.block_hashes[: (request.num_tokens - 1) // self.block_size]:
            block = self.pool.cached.get(block_hash)
            if block is None:
                break
            found.append(block)
        return found

    def prompt_blocks_of(self, leader: Request) -> list[int]:
        """The blocks of a leader's prompt, the last one possibly only partly filled, for a sibling to share."""
        return self.tables[leader.request_id][: self.blocks_for(leader.num_prompt_tokens)]

    def share(self, request: Request, blocks: list[int]) -> None:
        """Begin the request's table with blocks that others filled."""
        if request.request_id in self.tables:
            raise WorkbenchError(f"{request.request_id} already has a block table")
        for block in blocks:
            self.pool.share(block, request.request_id)
        self.tables[request.request_id] = list(blocks)

    def allocate(self, request: Request, num_new_tokens: int) -> TableUpdate:
        """Make room for the next num_new_tokens. The caller has checked blocks_needed against num_free."""
        table = self.tables[request.request_id]
        start = len(table)
        copies: tuple[BlockCopy, ...] = ()
        first = request.num_computed_tokens // self.block_size
        if first < len(table) and self.pool.ref_counts[table[first]] > 1:
            shared = table[first]
            table[first] = self.pool.copy_on_write(request.request_id, shared)
            copies = (BlockCopy(shared, table[first]),)
            start = first
        wanted = self.blocks_for(request.num_computed_tokens + num_new_tokens)
        while len(table) < wanted:
            table.append(self.pool.allocate(request.request_id))
        return TableUpdate(start, tuple(table[start:]), copies)

    def cache_full_blocks(self, request: Request, num_before: int) -> None:
        """Index the blocks that became full as num_computed_tokens went from num_before to its present value."""
        first, last = num_before // self.block_size, request.num_computed_tokens // self.block_size
        if not self.enable_prefix_caching or first == last:
            return
        self._extend_hashes(request, last)
        table = self.tables[request.request_id]
        for index in range(first, last):
            self.pool.cache(table[index], request.block_hashes[index])

    def free(self, request: Request) -> None:
        """Give back all blocks, tail first, so that the head of the sequence is evicted last."""
        for block in reversed(self.tables.pop(request.request_id, [])):
            self.pool.free(block, request.request_id)

    def resize(self, num_blocks: int) -> tuple[BlockCopy, ...]:
        """Grow or shrink the pool; returns what the runner has to copy first. See BlockPool.resize."""
        moves = self.pool.resize(num_blocks)
        if moves:
            for table in self.tables.values():
                table[:] = [moves.get(block, block) for block in table]
        return tuple(BlockCopy(old, new) for old, new in moves.items())

    def check_invariants(self) -> None:
        """Raise WorkbenchError unless every reference count equals the number of tables that hold the block."""
        self.pool.check_invariants()
        counts = [0] * self.pool.num_blocks
        for request_id, table in self.tables.items():
            if len(set(table)) != len(table):
                raise WorkbenchError(f"{request_id} holds a block twice")
            for block in table:
                counts[block] += 1
        if counts != self.pool.ref_counts:
            raise WorkbenchError("reference counts differ from the block tables")

    def _extend_hashes(self, request: Request, num_blocks: int) -> None:
        hashes, size = request.block_hashes, self.block_size
        while len(hashes) < num_blocks:
            start = len(hashes) * size
            parent = hashes[-1] if hashes else ""
            tokens = array("I", request.token_ids[start : start + size]).tobytes()
            hashes.append(hashlib.blake2b(tokens, digest_size=16, key=parent.encode()).hexdigest())
