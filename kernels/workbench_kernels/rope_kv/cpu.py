"""Rope and KV write on a CPU, in one pass over the fresh projections."""

import math

import numpy as np
import torch

from workbench_kernels.arrays import Array, as_array
from workbench_kernels.jit import kernel
from workbench_kernels.metadata import AttentionMetadata
from workbench_kernels.simd import get, put

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@kernel
def _rope_and_write(
    qkv: Array,
    cos_sin: Array,
    positions: Array,
    slot_mapping: Array,
    kv_cache: Array,
    num_heads: int,
    q_norm: Array,
    k_norm: Array,
    eps: np.float32,
) -> None:
    num_tokens, width = qkv.shape
    num_blocks, block_size, kv_heads, head_size = kv_cache.shape[1:]
    half = cos_sin.shape[1] // 2
    slot_size = kv_heads * head_size
    values = num_blocks * block_size * slot_size
    for token in range(num_tokens):
        angles = positions[token] * 2 * half
        for head in range(num_heads + kv_heads):
            x = token * width + head * head_size
            if q_norm.shape[0] > 0:
                gain = q_norm if head < num_heads else k_norm
                squares = _ZERO
                for i in range(head_size):
                    squares += get(qkv, x + i) * get(qkv, x + i)
                factor = _ONE / np.float32(math.sqrt(squares / np.float32(head_size) + eps))
                for i in range(head_size):
                    put(qkv, x + i, get(qkv, x + i) * factor * gain[i])
            for i in range(half):
                cos, sin = get(cos_sin, angles + i), get(cos_sin, angles + half + i)
                a, b = get(qkv, x + i), get(qkv, x + half + i)
                put(qkv, x + i, a * cos - b * sin)
                put(qkv, x + half + i, b * cos + a * sin)
        target = slot_mapping[token] * slot_size
        key = token * width + num_heads * head_size
        for i in range(slot_size):
            put(kv_cache, target + i, get(qkv, key + i))
            put(kv_cache, values + target + i, get(qkv, key + slot_size + i))


_NO_NORM = np.empty(0, np.float32)


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
    """As reference.rope_and_write_kv; cos_sin and the norms' gains are float32, qkv is contiguous."""
    _rope_and_write(
        as_array(qkv),
        as_array(cos_sin),
        meta.positions,
        meta.slot_mapping,
        as_array(kv_cache),
        num_heads,
        _NO_NORM if q_norm is None else as_array(q_norm),
        _NO_NORM if k_norm is None else as_array(k_norm),
        np.float32(eps),
    )
