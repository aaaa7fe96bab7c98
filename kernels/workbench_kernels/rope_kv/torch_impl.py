"""Rope and KV write from torch's own operations, for any device and dtype."""

import torch

from workbench_kernels.kv_cache import KVCache, QuantizedKV
from workbench_kernels.metadata import AttentionMetadata


def write_kv(k: torch.Tensor, v: torch.Tensor, kv_cache: KVCache, meta: AttentionMetadata) -> None:
    """Copy k and v [T, kv_heads, head_size] to their slots of the cache, as they are or as QuantizedKV.write does."""
    if isinstance(kv_cache, QuantizedKV):
        kv_cache.write(meta.device.slot_mapping, k, v)
        return
    slots = kv_cache.flatten(1, 2)
    slots[0].index_copy_(0, meta.device.slot_mapping, k)
    slots[1].index_copy_(0, meta.device.slot_mapping, v)


def rope_and_write_kv(
    qkv: torch.Tensor,
    cos_sin: torch.Tensor,
    kv_cache: KVCache,
    meta: AttentionMetadata,
    num_heads: int,
    q_norm: torch.Tensor | None = None,
    k_norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """As reference.rope_and_write_kv."""
    kv_heads, head_size = kv_cache.shape[3:]
    heads = qkv.view(qkv.shape[0], num_heads + 2 * kv_heads, head_size)
    turned = heads[:, : num_heads + kv_heads].float()
    if q_norm is not None and k_norm is not None:
        gain = torch.cat((q_norm.expand(num_heads, -1), k_norm.expand(kv_heads, -1))).float()
        turned = turned * torch.rsqrt(turned.pow(2).mean(-1, keepdim=True) + eps) * gain
    half = cos_sin.shape[1] // 2
    cos, sin = cos_sin[meta.device.positions].float().unsqueeze(1).split(half, -1)
    a, b, rest = turned.split((half, half, head_size - 2 * half), -1)
    heads[:, : num_heads + kv_heads] = torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1).to(qkv.dtype)
    write_kv(heads[:, num_heads : num_heads + kv_heads], heads[:, num_heads + kv_heads :], kv_cache, meta)
