"""Rope and KV write in Triton: one program a token and head, which norms, rotates, and writes keys and values home."""

import torch
import triton
import triton.language as tl

from workbench_kernels.metadata import AttentionMetadata
from workbench_kernels.triton_support import kernel, narrow


@kernel
def _rope_and_write(
    qkv,
    cos_sin,
    positions,
    slot_mapping,
    kv_cache,
    q_norm,
    k_norm,
    eps,
    values,
    num_heads: tl.constexpr,
    kv_heads: tl.constexpr,
    head_size: tl.constexpr,
    half: tl.constexpr,
    PAIRS: tl.constexpr,
    REST: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    slot = tl.load(slot_mapping + token)
    dtype: tl.constexpr = qkv.dtype.element_ty
    x = qkv + (token * (num_heads + 2 * kv_heads) + head) * head_size
    i = tl.arange(0, PAIRS)
    pair = i < half
    j = 2 * half + tl.arange(0, REST)
    other = j < head_size
    a = tl.load(x + i, mask=pair, other=0.0)
    b = tl.load(x + half + i, mask=pair, other=0.0)
    rest = tl.load(x + j, mask=other, other=0.0)
    if head < num_heads + kv_heads:
        first = a.to(tl.float32)
        second = b.to(tl.float32)
        third = rest.to(tl.float32)
        if q_norm is not None:
            squares = tl.sum(first * first) + tl.sum(second * second) + tl.sum(third * third)
            factor = 1.0 / tl.sqrt(squares / head_size + eps)
            gain = k_norm
            if head < num_heads:
                gain = q_norm
            first *= factor * tl.load(gain + i, mask=pair, other=0.0)
            second *= factor * tl.load(gain + half + i, mask=pair, other=0.0)
            third *= factor * tl.load(gain + j, mask=other, other=0.0)
        # A token that only fills up a batch may have a position below 0.
        angles = cos_sin + tl.maximum(tl.load(positions + token), 0) * 2 * half
        cos = tl.load(angles + i, mask=pair, other=0.0)
        sin = tl.load(angles + half + i, mask=pair, other=0.0)
        turned_a = narrow(first * cos - second * sin, dtype)
        turned_b = narrow(second * cos + first * sin, dtype)
        kept = narrow(third, dtype)
        tl.store(x + i, turned_a, mask=pair)
        tl.store(x + half + i, turned_b, mask=pair)
        tl.store(x + j, kept, mask=other)
        if (head >= num_heads) & (slot >= 0):
            home = kv_cache + (slot * kv_heads + head - num_heads) * head_size
            tl.store(home + i, turned_a, mask=pair)
            tl.store(home + half + i, turned_b, mask=pair)
            tl.store(home + j, kept, mask=other)
    elif slot >= 0:
        home = kv_cache + values + (slot * kv_heads + head - num_heads - kv_heads) * head_size
        tl.store(home + i, a, mask=pair)
        tl.store(home + half + i, b, mask=pair)
        tl.store(home + j, rest, mask=other)


def rope_and_write_kv(
    qkv: torch.Tensor,
    cos_sin: torch.Tensor,
    kv_cache: torch.Tensor,
    meta: AttentionMetadata,
    num_heads: int,
    q_norm: torch.Tensor | None = None,
    k_norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """As reference.rope_and_write_kv, for contiguous qkv; tokens whose slot is below 0 leave the cache as it is."""
    kv_heads, head_size = kv_cache.shape[3:]
    half = cos_sin.shape[1] // 2
    _rope_and_write[(qkv.shape[0], num_heads + 2 * kv_heads)](
        qkv,
        cos_sin,
        meta.device.positions,
        meta.device.slot_mapping,
        kv_cache,
        q_norm,
        k_norm,
        eps,
        kv_cache.stride(0),
        num_heads=num_heads,
        kv_heads=kv_heads,
        head_size=head_size,
        half=half,
        PAIRS=triton.next_power_of_2(half),
        REST=triton.next_power_of_2(max(head_size - 2 * half, 1)),
        num_warps=1,
    )
