"""Paged attention in Triton, which reads K and V through the block table where they lie.

Decode: the KV length is split over programs and their partial results are merged by their log-sum-exp, as in
flash-decoding (Dao et al., 2023), with the query heads of one KV head as the rows of one matrix product. Chunks: tiles
of queries against tiles of keys with a running softmax, as in FlashAttention (Dao et al., 2022). Reading through block
tables is PagedAttention's idea (Kwon et al., 2023).
"""

import math

import torch
import triton
import triton.language as tl

from workbench_kernels.metadata import AttentionMetadata
from workbench_kernels.triton_support import INTERPRETED, dot_type, kernel, narrow

# Tokens of one chunk and query heads of one KV head that a program takes; their product is the rows of its matrix.
QUERY_TILE = 64
_QUERY_HEADS = 2
# Most parts of one sequence's KV: more would make merging them cost as much as reading them.
_MOST_SPLITS = 32
# Programs that keep every multiprocessor of a GPU at work, where nobody says how many there are.
_PROGRAMS = 512
_LOG2_E = math.log2(math.e)


@triton.jit
def _attend_tile(
    q,
    acc,
    top,
    weight,
    start,
    end,
    row_positions,
    keys,
    table,
    values,
    score_scale,
    soft_cap,
    sliding_window,
    slot_size,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    KV_TILE: tl.constexpr,
    HEAD: tl.constexpr,
    DOT: tl.constexpr,
    MASKED: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
):
    """Take positions start .. start + KV_TILE, below end, into the running softmax of the rows of q [rows, HEAD].

    keys points at the KV head's features in slot 0, its values lie `values` elements on. Scores are in units of log2.
    """
    n = start + tl.arange(0, KV_TILE)
    d = tl.arange(0, HEAD)
    block = tl.load(table + n // block_size, mask=n < end, other=0).to(tl.int64)
    places = keys + (block * block_size + n % block_size)[:, None] * slot_size + d[None, :]
    if MASKED or head_size != HEAD:
        inside = (n < end)[:, None] & (d < head_size)[None, :]
        k = tl.load(places, mask=inside, other=0.0)
        v = tl.load(places + values, mask=inside, other=0.0)
    else:
        k = tl.load(places)
        v = tl.load(places + values)
    scores = tl.dot(q, tl.trans(k.to(DOT)), input_precision="ieee") * score_scale
    if SOFT_CAP:  # tanh by way of a sigmoid
        scores = soft_cap * (2.0 * tl.sigmoid(2.0 * scores) - 1.0)
    if MASKED:
        seen = (n[None, :] <= row_positions[:, None]) & (n < end)[None, :]
        if WINDOW:
            seen &= n[None, :] > row_positions[:, None] - sliding_window
        scores = tl.where(seen, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1))
    base = tl.where(new_top == float("-inf"), 0.0, new_top)  # a row that has seen nothing yet
    p = tl.exp2(scores - base[:, None])
    shrink = tl.exp2(top - base)
    weight = weight * shrink + tl.sum(p, 1)
    acc = tl.dot(p.to(DOT), v.to(DOT), acc * shrink[:, None], input_precision="ieee")
    return acc, new_top, weight


@kernel
def _decode(
    q,
    kv_cache,
    block_tables,
    single_tokens,
    token_rows,
    positions,
    out,
    log_sums,
    score_scale,
    soft_cap,
    sliding_window,
    q_stride,
    table_stride,
    slot_size,
    values,
    num_heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    KV_TILE: tl.constexpr,
    HEAD: tl.constexpr,
    DOT: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
):
    """One token, one KV head with its group of query heads, one part of the token's context.

    SPLITS 1: out [T, heads, head_size] is the result. Otherwise out is [S, heads, SPLITS, head_size] in float32 and
    log_sums [S, heads, SPLITS] the logarithm to base 2 of each part's weight, -inf for a part without tokens.
    """
    index = tl.program_id(0)
    head = tl.program_id(1)
    split = tl.program_id(2)
    group: tl.constexpr = num_heads // kv_heads
    token = index
    if single_tokens is not None:
        token = tl.load(single_tokens + index)
    token = token.to(tl.int64)
    end = tl.load(positions + token).to(tl.int32) + 1
    first = 0
    if WINDOW:
        first = tl.maximum(end - sliding_window, 0) // KV_TILE * KV_TILE
    part = tl.cdiv(tl.cdiv(end - first, SPLITS), KV_TILE) * KV_TILE
    first += split * part
    last = tl.minimum(first + part, end)
    table = block_tables + tl.load(token_rows + token).to(tl.int64) * table_stride
    keys = kv_cache + head * head_size

    g = tl.arange(0, ROWS)
    d = tl.arange(0, HEAD)
    inside = (g < group)[:, None] & (d < head_size)[None, :]
    heads = head * group + g
    rows = tl.load(q + token * q_stride + heads[:, None] * head_size + d[None, :], mask=inside, other=0.0).to(DOT)
    row_positions = tl.zeros((ROWS,), tl.int32) + (end - 1)
    acc = tl.zeros((ROWS, HEAD), tl.float32)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    weight = tl.zeros((ROWS,), tl.float32)
    for start in range(first, last, KV_TILE):
        acc, top, weight = _attend_tile(
            rows, acc, top, weight, start, last, row_positions, keys, table, values, score_scale, soft_cap,
            sliding_window, slot_size, head_size, block_size, KV_TILE, HEAD, DOT, True, WINDOW, SOFT_CAP,
        )  # fmt: skip
    acc = acc / tl.where(weight == 0.0, 1.0, weight)[:, None]
    if SPLITS == 1:
        target = out + (token * num_heads + heads[:, None]) * head_size + d[None, :]
        tl.store(target, narrow(acc, out.dtype.element_ty), mask=inside)
    else:
        part_row = (index.to(tl.int64) * num_heads + heads) * SPLITS + split
        tl.store(out + part_row[:, None] * head_size + d[None, :], acc, mask=inside)
        empty = weight == 0.0
        log_sum = tl.where(empty, float("-inf"), top + tl.log2(tl.where(empty, 1.0, weight)))
        tl.store(log_sums + part_row, log_sum, mask=g < group)


@kernel
def _merge(
    parts,
    log_sums,
    single_tokens,
    out,
    num_heads: tl.constexpr,
    head_size: tl.constexpr,
    SPLITS: tl.constexpr,
    PARTS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """One token and head: the mean of its parts, each weighted by the exponential of its log-sum."""
    index = tl.program_id(0)
    head = tl.program_id(1)
    token = index
    if single_tokens is not None:
        token = tl.load(single_tokens + index)
    s = tl.arange(0, PARTS)
    d = tl.arange(0, HEAD)
    first = (index.to(tl.int64) * num_heads + head) * SPLITS
    sums = tl.load(log_sums + first + s, mask=s < SPLITS, other=float("-inf"))
    top = tl.max(sums)
    share = tl.exp2(sums - tl.where(top == float("-inf"), 0.0, top))
    inside = (s < SPLITS)[:, None] & (d < head_size)[None, :]
    each = tl.load(parts + (first + s)[:, None] * head_size + d[None, :], mask=inside, other=0.0)
    total = tl.sum(share)
    mean = tl.sum(each * share[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    target = out + (token.to(tl.int64) * num_heads + head) * head_size + d
    tl.store(target, narrow(mean, out.dtype.element_ty), mask=d < head_size)


@kernel
def _chunk(
    q,
    kv_cache,
    block_tables,
    tiles,
    token_rows,
    positions,
    out,
    score_scale,
    soft_cap,
    sliding_window,
    q_stride,
    table_stride,
    slot_size,
    values,
    num_heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    block_size: tl.constexpr,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    KV_TILE: tl.constexpr,
    HEAD: tl.constexpr,
    DOT: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
):
    """One tile of a request's new tokens, HEADS query heads of one KV head: row g * QUERIES + t is token t, head g."""
    # The last tiles of a chunk see the most keys: they start first, so that none of them is left to the end.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    group: tl.constexpr = num_heads // kv_heads
    first_token = tl.load(tiles + 2 * tile).to(tl.int64)
    count = tl.load(tiles + 2 * tile + 1)
    first_position = tl.load(positions + first_token).to(tl.int32)
    table = block_tables + tl.load(token_rows + first_token).to(tl.int64) * table_stride
    keys = kv_cache + head * head_size

    row = tl.arange(0, HEADS * QUERIES)
    t = row % QUERIES
    g = tl.program_id(2) * HEADS + row // QUERIES
    d = tl.arange(0, HEAD)
    inside = ((t < count) & (g < group))[:, None] & (d < head_size)[None, :]
    heads = head * group + g
    places = q + (first_token + t)[:, None] * q_stride + heads[:, None] * head_size + d[None, :]
    rows = tl.load(places, mask=inside, other=0.0).to(DOT)
    row_positions = first_position + t
    acc = tl.zeros((HEADS * QUERIES, HEAD), tl.float32)
    top = tl.full((HEADS * QUERIES,), float("-inf"), tl.float32)
    weight = tl.zeros((HEADS * QUERIES,), tl.float32)

    end = first_position + count
    begin = 0
    if WINDOW:
        begin = tl.maximum(first_position + 1 - sliding_window, 0) // KV_TILE * KV_TILE
        border = begin
    else:
        border = (first_position + 1) // KV_TILE * KV_TILE  # up to here every row sees every key
        for start in range(begin, border, KV_TILE):
            acc, top, weight = _attend_tile(
                rows, acc, top, weight, start, end, row_positions, keys, table, values, score_scale, soft_cap,
                sliding_window, slot_size, head_size, block_size, KV_TILE, HEAD, DOT, False, WINDOW, SOFT_CAP,
            )  # fmt: skip
    for start in range(border, end, KV_TILE):
        acc, top, weight = _attend_tile(
            rows, acc, top, weight, start, end, row_positions, keys, table, values, score_scale, soft_cap,
            sliding_window, slot_size, head_size, block_size, KV_TILE, HEAD, DOT, True, WINDOW, SOFT_CAP,
        )  # fmt: skip
    acc = acc / tl.where(weight == 0.0, 1.0, weight)[:, None]  # rows past the tile's count may have seen nothing
    target = out + ((first_token + t)[:, None] * num_heads + heads[:, None]) * head_size + d[None, :]
    tl.store(target, narrow(acc, out.dtype.element_ty), mask=inside)


def _kv_tile(head: int, itemsize: int) -> int:
    """Keys in a tile: as many as leave room for a pipeline of tiles in shared memory. Few under the interpreter, so
    that a short sequence has several tiles too."""
    if INTERPRETED.value:
        return 16
    return 64 if head * itemsize <= 256 else 32


def num_splits(num_tokens: int, kv_heads: int, max_context: int, kv_tile: int, programs: int) -> int:
    """Parts of each token's context, so that about `programs` run at once and none has less than two tiles to read."""
    wanted = -(-programs // (num_tokens * kv_heads))
    return max(1, min(wanted, _MOST_SPLITS, max_context // (2 * kv_tile)))


def paged_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_cache: torch.Tensor,
    meta: AttentionMetadata,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    programs: int = _PROGRAMS,
) -> torch.Tensor:
    """As reference.paged_attention, in q's dtype; k and v [T, kv_heads, head_size] are already in the cache too.

    q [T, heads, head_size] may have any stride between tokens. meta was made with a query_tile. A token whose position
    is -1 (it only fills up a batch) gives zeros. programs: how many the device runs at once; fixes the number of splits
    together with shapes alone, so that a captured graph and a launch do the same.
    """
    device = meta.device
    if not device.query_tile:
        raise ValueError("Triton's attention needs metadata with tiles: make_metadata(..., query_tile=QUERY_TILE)")
    num_heads, head_size = q.shape[1:]
    block_size, kv_heads = kv_cache.shape[2:4]
    group = num_heads // kv_heads
    head = max(16, triton.next_power_of_2(head_size))
    kv_tile = _kv_tile(head, q.element_size())
    table_stride = device.block_tables.shape[1]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    score_scale = scale / soft_cap if soft_cap else scale * _LOG2_E
    numbers = (
        score_scale,
        soft_cap * _LOG2_E,
        sliding_window,
        q.stride(0),
        table_stride,
        kv_heads * head_size,
        kv_cache.stride(0),
    )
    shape = {
        "num_heads": num_heads,
        "kv_heads": kv_heads,
        "head_size": head_size,
        "block_size": block_size,
        "KV_TILE": kv_tile,
        "HEAD": head,
        "DOT": dot_type(q.dtype),
        "WINDOW": sliding_window > 0,
        "SOFT_CAP": soft_cap > 0,
    }
    if device.tiles is not None:
        heads = min(_QUERY_HEADS, triton.next_power_of_2(group))
        _chunk[(len(device.tiles), kv_heads, triton.cdiv(group, heads))](
            q,
            kv_cache,
            device.block_tables,
            device.tiles,
            device.token_rows,
            device.positions,
            out,
            *numbers,
            **shape,
            QUERIES=max(device.query_tile, 16 // heads),
            HEADS=heads,
            num_warps=8 if heads * device.query_tile >= 128 else 4,
            num_stages=3 if q.element_size() <= 2 else 2,
        )
    num_single = len(q) if device.single_tokens is None else len(device.single_tokens)
    if num_single == 0:
        return out
    splits = num_splits(num_single, kv_heads, table_stride * block_size, kv_tile, programs)
    parts, log_sums = out, out
    if splits > 1:
        parts = torch.empty((num_single, num_heads, splits, head_size), dtype=torch.float32, device=q.device)
        log_sums = torch.empty((num_single, num_heads, splits), dtype=torch.float32, device=q.device)
    _decode[(num_single, kv_heads, splits)](
        q,
        kv_cache,
        device.block_tables,
        device.single_tokens,
        device.token_rows,
        device.positions,
        parts,
        log_sums,
        *numbers,
        **shape,
        SPLITS=splits,
        ROWS=max(16, triton.next_power_of_2(group)),
        num_warps=4,
        num_stages=3,
    )
    if splits > 1:
        _merge[(num_single, num_heads)](
            parts,
            log_sums,
            device.single_tokens,
            out,
            num_heads=num_heads,
            head_size=head_size,
            SPLITS=splits,
            PARTS=triton.next_power_of_2(splits),
            HEAD=head,
            num_warps=1,
        )
    return out
