"""Rope and KV write in the plainest loop, in float32: what every other implementation is held to."""

import torch

from workbench_kernels.metadata import AttentionMetadata


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
    """Rotate the queries and keys of qkv [T, (heads + 2 kv_heads) * head_size] in place; write K and V to the cache.

    cos_sin [positions, rotary_dim]: cosines, then sines, of rotary_dim / 2 angles each. Feature i is rotated with
    feature i + rotary_dim / 2; features from rotary_dim on stay. q_norm, k_norm [head_size]: gains of an RMS norm over
    each head before the rotation.
    """
    block_size, kv_heads, head_size = kv_cache.shape[2:]
    half = cos_sin.shape[1] // 2
    for token in range(qkv.shape[0]):
        heads = qkv[token].view(num_heads + 2 * kv_heads, head_size)
        cos, sin = cos_sin[int(meta.positions[token])].float().split(half)
        for head in range(num_heads + kv_heads):
            x = heads[head].float()
            gain = q_norm if head < num_heads else k_norm
            if gain is not None:
                x = x * torch.rsqrt(x.pow(2).mean() + eps) * gain.float()
            a, b, rest = x[:half], x[half : 2 * half], x[2 * half :]
            heads[head] = torch.cat((a * cos - b * sin, b * cos + a * sin, rest)).to(qkv.dtype)
        block, offset = divmod(int(meta.slot_mapping[token]), block_size)
        kv_cache[0, block, offset] = heads[num_heads : num_heads + kv_heads]
        kv_cache[1, block, offset] = heads[num_heads + kv_heads :]
