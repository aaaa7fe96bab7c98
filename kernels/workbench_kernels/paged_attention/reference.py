"""Paged attention in the plainest loop, in float32: what every other implementation is held to."""

import torch

from workbench_kernels.kv_cache import KVCache, QuantizedKV, dequantize
from workbench_kernels.metadata import AttentionMetadata


def paged_attention(
    q: torch.Tensor,
    kv_cache: KVCache,
    meta: AttentionMetadata,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """Attention of q [T, heads, head_size] over kv_cache [2, blocks, block_size, kv_heads, head_size], as float32.

    Query head h reads KV head h // (heads / kv_heads). A token at position p sees positions up to p, and of those the
    last sliding_window where that is above 0. soft_cap c above 0 turns a score s into c tanh(s / c).
    """
    if isinstance(kv_cache, QuantizedKV):
        kv_cache = dequantize(kv_cache.data, kv_cache.scales)
    block_size, kv_heads = kv_cache.shape[2], kv_cache.shape[3]
    group = q.shape[1] // kv_heads
    out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    for span in meta.spans:
        for token in range(span.start, span.stop):
            position = int(meta.positions[token])
            first = max(0, position + 1 - sliding_window) if sliding_window else 0
            for head in range(q.shape[1]):
                scores, values = [], []
                for past in range(first, position + 1):
                    block = int(meta.block_tables[span.row, past // block_size])
                    key, value = kv_cache[:, block, past % block_size, head // group].float()
                    score = (q[token, head].float() @ key) * scale
                    scores.append(soft_cap * torch.tanh(score / soft_cap) if soft_cap else score)
                    values.append(value)
                out[token, head] = torch.softmax(torch.stack(scores), 0) @ torch.stack(values)
    return out
