"""Paged attention on a CPU: decode rows and short chunks walk the block table in place, long chunks go to torch's SDPA.

The idea of reading K and V through a block table without gathering them is PagedAttention's (Kwon et al., 2023).
"""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

from workbench_kernels.arrays import Array, as_array
from workbench_kernels.jit import kernel
from workbench_kernels.kv_cache import KVCache, QuantizedKV
from workbench_kernels.metadata import AttentionMetadata
from workbench_kernels.paged_attention.torch_impl import attend_span
from workbench_kernels.simd import (
    LANES,
    exp_nonpositive,
    get,
    get_int,
    load,
    multiply,
    multiply_add,
    put,
    splat,
    store,
    total,
)

# From this many new tokens on, a request's chunk goes through torch's blocked SDPA instead of row by row. Measured at
# head sizes 32 and 64, one thread: 32 tokens are faster row by row unless some 300 stand before them, 128 are not.
LONG_QUERY = 64
# Below this many multiply-adds a call is over before a second thread has woken up.
PARALLEL_WORK = 10_000_000

_NO_SCALES = np.empty((0, 0, 0, 0), np.float32)
_ZERO, _ONE, _MINUS_INF = np.float32(0.0), np.float32(1.0), np.float32(-np.inf)


@kernel
def _attend(
    q: Array,
    q_stride: int,
    kv_cache: Array,
    scales: Array,
    block_tables: Array,
    token_rows: Array,
    positions: Array,
    scale: np.float32,
    sliding_window: int,
    soft_cap: np.float32,
    out: Array,
    num_heads: int,
    lanes: tuple[int, ...],
    first_item: int,
    last_item: int,
) -> None:
    """Items first..last of the flat list (token, KV head): scores of the head's group, softmax, weighted sum of V.

    scales: of a quantized cache, else empty. lanes: a tuple of head_size / LANES elements; its length is part of its
    type, so that the loops over a head's features are unrolled when the kernel is compiled for it.
    """
    head_size = len(lanes) * LANES
    num_blocks, block_size, kv_heads = kv_cache.shape[1:4]
    group = num_heads // kv_heads
    slot = kv_heads * head_size  # elements from one token to the next
    values = num_blocks * block_size * slot  # elements from K to V
    longest = 0
    for item in range(first_item, last_item):
        longest = max(longest, positions[item // kv_heads] + 1)
    scores = np.empty(group * longest, np.float32)
    for item in range(first_item, last_item):
        token = item // kv_heads
        head = item - token * kv_heads
        context = positions[token] + 1
        table = np.int64(token_rows[token]) * block_tables.shape[1]
        first = max(0, context - sliding_window) if sliding_window > 0 else 0
        first_block, last_block = first // block_size, (context + block_size - 1) // block_size
        query = token * q_stride + head * group * head_size
        for index in range(first_block, last_block):
            block = np.int64(get_int(block_tables, table + index)) * block_size * slot + head * head_size
            begin = index * block_size
            for offset in range(max(first - begin, 0), min(context - begin, block_size)):
                key = block + offset * slot
                for g in range(group):
                    dot = multiply(load(q, query + g * head_size), load(kv_cache, key))
                    for d in range(LANES, head_size, LANES):
                        dot = multiply_add(load(q, query + g * head_size + d), load(kv_cache, key + d), dot)
                    put(scores, g * longest + begin + offset, total(dot) * scale)
        quantized = scales.size > 0
        places = num_blocks * block_size * kv_heads  # scales from K's to V's
        if quantized:
            for past in range(first, context):
                place = np.int64(get_int(block_tables, table + past // block_size)) * block_size + past % block_size
                share = get(scales, place * kv_heads + head)
                for g in range(group):
                    put(scores, g * longest + past, get(scores, g * longest + past) * share)
        target = (token * num_heads + head * group) * head_size
        for g in range(group):
            row = g * longest
            if soft_cap > _ZERO:
                for past in range(first, context):
                    put(scores, row + past, soft_cap * np.float32(math.tanh(get(scores, row + past) / soft_cap)))
            top = _MINUS_INF
            for past in range(first, context):
                top = max(top, get(scores, row + past))
            weight = _ZERO
            for past in range(first, context):
                p = exp_nonpositive(get(scores, row + past) - top)
                put(scores, row + past, p)
                weight += p
            if quantized:
                for past in range(first, context):
                    place = np.int64(get_int(block_tables, table + past // block_size)) * block_size + past % block_size
                    share = get(scales, places + place * kv_heads + head)
                    put(scores, row + past, get(scores, row + past) * share)
            inverse = splat(_ONE / weight)
            d = 0
            while d + 4 * LANES <= head_size:  # four sums at once hide the latency of multiply-add
                sum0 = splat(_ZERO)
                sum1 = sum0
                sum2 = sum0
                sum3 = sum0
                for index in range(first_block, last_block):
                    block = np.int64(get_int(block_tables, table + index)) * block_size * slot + head * head_size
                    begin = index * block_size
                    for offset in range(max(first - begin, 0), min(context - begin, block_size)):
                        value = values + block + d + offset * slot
                        share = splat(get(scores, row + begin + offset))
                        sum0 = multiply_add(share, load(kv_cache, value), sum0)
                        sum1 = multiply_add(share, load(kv_cache, value + LANES), sum1)
                        sum2 = multiply_add(share, load(kv_cache, value + 2 * LANES), sum2)
                        sum3 = multiply_add(share, load(kv_cache, value + 3 * LANES), sum3)
                goal = target + g * head_size + d
                store(out, goal, multiply(sum0, inverse))
                store(out, goal + LANES, multiply(sum1, inverse))
                store(out, goal + 2 * LANES, multiply(sum2, inverse))
                store(out, goal + 3 * LANES, multiply(sum3, inverse))
                d += 4 * LANES
            while d < head_size:
                sum0 = splat(_ZERO)
                for index in range(first_block, last_block):
                    block = np.int64(get_int(block_tables, table + index)) * block_size * slot + head * head_size
                    begin = index * block_size
                    for offset in range(max(first - begin, 0), min(context - begin, block_size)):
                        share = splat(get(scores, row + begin + offset))
                        sum0 = multiply_add(share, load(kv_cache, values + block + d + offset * slot), sum0)
                store(out, target + g * head_size + d, multiply(sum0, inverse))
                d += LANES


def paged_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_cache: KVCache,
    meta: AttentionMetadata,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
    pool: ThreadPoolExecutor | None = None,
    workers: int = 1,
) -> torch.Tensor:
    """As reference.paged_attention, in q's dtype (float32 or bfloat16; the cache's too unless it is quantized).

    head_size is a multiple of 8.

    q [T, heads, head_size] may have any stride between tokens. k and v [T, kv_heads, head_size] are this step's,
    already in the cache as well. pool: threads for work above PARALLEL_WORK, which is split into `workers` parts.
    """
    out = torch.empty(q.shape, dtype=q.dtype)
    short: list[tuple[int, int]] = []  # ranges of tokens, neighbours merged
    work = 0
    for span in meta.spans:
        length = span.stop - span.start
        if length >= LONG_QUERY:
            out[span.start : span.stop] = attend_span(q, k, v, kv_cache, meta, span, scale, sliding_window, soft_cap)
            continue
        work += length * min(span.context, sliding_window or span.context)
        if short and short[-1][1] == span.start:
            short[-1] = (short[-1][0], span.stop)
        else:
            short.append((span.start, span.stop))
    if not short:
        return out
    num_heads, kv_heads = q.shape[1], kv_cache.shape[3]
    arguments = (
        as_array(q),
        q.stride(0),
        as_array(kv_cache.data if isinstance(kv_cache, QuantizedKV) else kv_cache),
        as_array(kv_cache.scales) if isinstance(kv_cache, QuantizedKV) else _NO_SCALES,
        meta.block_tables,
        meta.token_rows,
        meta.positions,
        np.float32(scale),
        sliding_window,
        np.float32(soft_cap),
        as_array(out),
        num_heads,
        (0,) * (q.shape[2] // LANES),
    )
    parts = workers if pool is not None and work * num_heads * q.shape[2] * 2 >= PARALLEL_WORK else 1
    for start, stop in short:
        first, last = start * kv_heads, stop * kv_heads
        if parts == 1 or pool is None:
            _attend(*arguments, first, last)
            continue
        cuts = [first + (last - first) * part // parts for part in range(parts + 1)]
        others = [pool.submit(_attend, *arguments, a, b) for a, b in pairwise(cuts[1:])]
        _attend(*arguments, cuts[0], cuts[1])
        for other in others:
            other.result()
    return out
