"""Paged attention as a reader might write it, right or with a mistake."""

import torch


def plain_attention(q, k, v, kv_cache, meta, scale, sliding_window=0, soft_cap=0.0):
    """Token by token in torch's own operations, with whatever block size and heads there are."""
    block_size, kv_heads = kv_cache.shape[2:4]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for span in meta.spans:
        for token in range(span.start, span.stop):
            position = int(meta.positions[token])
            first = max(0, position + 1 - sliding_window) if sliding_window else 0
            past = torch.arange(first, position + 1)
            table = torch.from_numpy(meta.block_tables[span.row]).long()
            keys, values = kv_cache.flatten(1, 2)[:, table[past // block_size] * block_size + past % block_size].float()
            keys, values = (x.repeat_interleave(q.shape[1] // kv_heads, 1) for x in (keys, values))
            scores = torch.einsum("hd,nhd->hn", q[token].float(), keys) * scale
            if soft_cap:
                scores = soft_cap * torch.tanh(scores / soft_cap)
            out[token] = torch.einsum("hn,nhd->hd", scores.softmax(1), values).to(q.dtype)
    return out
