"""Batches over a block pool to try kernels on: what a scheduler would hand out, with NaN where nothing was written."""

from dataclasses import dataclass

import numpy as np
import torch

from workbench_kernels.metadata import AttentionMetadata, make_metadata


@dataclass(frozen=True)
class Batch:
    """name: what it is about. new: tokens computed now, context: tokens in all, per request.

    shared: the first blocks of every request are those of the first one (a prefix hit).
    """

    name: str
    new: tuple[int, ...]
    context: tuple[int, ...]
    shared: int = 0

    def __str__(self) -> str:
        return self.name


def odd_batches(block_size: int) -> list[Batch]:
    """The lengths at which paging goes wrong, if it does."""
    b = block_size
    return [
        Batch("one_token_no_prefix", (1,), (1,)),
        Batch("decode_around_block_end", (1, 1, 1, 1), (b - 1, b, b + 1, 3 * b)),
        Batch("chunks_no_prefix", (1, b - 1, b, b + 1), (1, b - 1, b, b + 1)),
        Batch("chunks_after_prefix", (2, b, b + 1), (b + 1, 2 * b, 3 * b + 2)),
        Batch("long_prefill", (40,), (40,)),
        Batch("long_chunk_after_prefix", (33,), (33 + 2 * b + 1,)),
        Batch("mixed", (1, 37, 1, 5), (2 * b + 1, 37, 7, 5 + b)),
        Batch("shared_prefix", (1, 1, 3), (2 * b + 1, 2 * b + 4, 2 * b + 3), shared=2),
    ]


@dataclass
class Inputs:
    """Random q, k, v of the step's tokens as slices of one projection, and a cache that holds the rest."""

    qkv: torch.Tensor
    kv_cache: torch.Tensor
    meta: AttentionMetadata
    num_heads: int

    @property
    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q, k, v as views [T, heads, head_size]."""
        kv_heads, size = self.kv_cache.shape[3:]
        heads = self.qkv.view(len(self.qkv), self.num_heads + 2 * kv_heads, size)
        q, k, v = heads.split((self.num_heads, kv_heads, kv_heads), 1)
        return q, k, v

    def write_fresh(self) -> None:
        """Put this step's k and v where they belong."""
        _, k, v = self.parts
        slots = self.meta.device.slot_mapping
        self.kv_cache[0].flatten(0, 1)[slots] = k
        self.kv_cache[1].flatten(0, 1)[slots] = v


def make_inputs(
    batch: Batch,
    num_heads: int,
    kv_heads: int,
    head_size: int,
    block_size: int,
    dtype: torch.dtype,
    seed: int = 0,
    query_tile: int = 0,
    device: str = "cpu",
) -> Inputs:
    """Inputs whose block tables are shuffled over the pool. Slots that no token owns hold NaN; so do this step's."""
    generator = torch.Generator().manual_seed(seed)
    needs = [-(-context // block_size) for context in batch.context]
    order = np.random.default_rng(seed).permutation(sum(needs) + 3).astype(np.int32)
    tables = np.zeros((len(needs) + 2, max(needs) + 1), np.int32)
    rows = np.arange(len(needs))[::-1] + 1  # rows in another order than the batch, and some unused
    taken = 0
    for row, need in zip(rows, needs, strict=True):
        tables[row, :need] = order[taken : taken + need]
        taken += need
        tables[row, : min(batch.shared, need)] = tables[rows[0], : min(batch.shared, need)]
    kv_cache = torch.full((2, len(order), block_size, kv_heads, head_size), float("nan"), dtype=dtype)
    flat = kv_cache.flatten(1, 2)
    for row, new, context in zip(rows, batch.new, batch.context, strict=True):
        past = np.arange(context - new)
        slots = torch.from_numpy(tables[row, past // block_size].astype(np.int64) * block_size + past % block_size)
        values = torch.randn(2, len(past), kv_heads, head_size, generator=generator).to(dtype)
        untouched = flat[0, slots, 0, 0].isnan() if len(past) else torch.zeros(0, dtype=torch.bool)
        flat[:, slots[untouched]] = values[:, untouched]
    starts = np.concatenate(([0], np.cumsum(batch.new)))
    meta = make_metadata(starts, np.array(batch.context), rows, tables, block_size, torch.device(device), query_tile)
    width = (num_heads + 2 * kv_heads) * head_size
    qkv = torch.randn(int(starts[-1]), width, generator=generator).to(dtype)
    return Inputs(qkv.to(device), kv_cache.to(device), meta, num_heads)
