"""Paged attention from torch's own operations, for any device and dtype: gathers each request's K and V once a call."""

import torch
from torch.nn import functional as F

from workbench_kernels.kv_cache import KVCache, QuantizedKV
from workbench_kernels.metadata import AttentionMetadata, QuerySpan


def attend_span(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_cache: KVCache,
    meta: AttentionMetadata,
    span: QuerySpan,
    scale: float,
    sliding_window: int,
    soft_cap: float,
) -> torch.Tensor:
    """One request's rows of paged_attention, [tokens, heads, head_size]."""
    length = span.stop - span.start
    queries = q[span.start : span.stop]
    if span.context == length:  # no prefix: the fresh K and V are all there is
        keys, values = k[span.start : span.stop], v[span.start : span.stop]
        first = 0
    else:
        block_size = kv_cache.shape[2]
        first = max(0, span.context - length + 1 - sliding_window) // block_size * block_size if sliding_window else 0
        table = meta.device.block_tables[span.row, first // block_size : -(-span.context // block_size)]
        if isinstance(kv_cache, QuantizedKV):
            gathered = kv_cache.gather(table.long()).to(q.dtype)
        else:
            gathered = kv_cache[:, table.long()]
        keys, values = gathered.flatten(1, 2)[:, : span.context - first].unbind(0)
    mask = None
    is_causal = first == 0 and span.context == length and not 0 < sliding_window < length
    if (length > 1 and not is_causal) or sliding_window:
        positions = torch.arange(span.context - length, span.context, device=q.device)[:, None]
        past = torch.arange(first, span.context, device=q.device)[None, :]
        mask = past <= positions
        if sliding_window:
            mask &= past > positions - sliding_window
    if soft_cap:
        return _soft_capped(queries, keys, values, mask, is_causal, scale, soft_cap)
    out = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=None if is_causal else mask,
        is_causal=is_causal and length > 1,
        scale=scale,
        enable_gqa=q.shape[1] != keys.shape[1],
    )
    return out[0].transpose(0, 1)


def _soft_capped(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float,
    soft_cap: float,
) -> torch.Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", q.float(), k.float()) * scale
    scores = soft_cap * torch.tanh(scores / soft_cap)
    if is_causal:
        mask = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.float()).to(q.dtype)


def paged_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    kv_cache: KVCache,
    meta: AttentionMetadata,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """As reference.paged_attention, in q's dtype; k and v [T, kv_heads, head_size] are already in the cache too."""
    parts = [attend_span(q, k, v, kv_cache, meta, span, scale, sliding_window, soft_cap) for span in meta.spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
