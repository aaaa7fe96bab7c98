"""A KV cache of 8-bit numbers with a scale for each token and head, and the one rule by which it is written and read.

value = number * scale. A scale is the largest magnitude of a head's K (or V) of one token, divided by the largest
number there is, so a token that was written is never written again because of a later one. Reading gives float32.
"""

from typing import NamedTuple

import torch

# dtype -> the largest number stored: int8 keeps to a symmetric range, e4m3 ends at 448.
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
# Below this a scale's inverse would overflow; such a head is stored as zeros.
SMALLEST_SCALE = 1e-30


class QuantizedKV(NamedTuple):
    """One layer's cache. data [2, blocks, block_size, kv_heads, head_size] int8 or float8_e4m3fn, K first, then V.

    scales [2, blocks, block_size, kv_heads] float32.
    """

    data: torch.Tensor
    scales: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        """The data's, so that code that only asks for sizes takes either kind of cache."""
        return self.data.shape

    def gather(self, blocks: torch.Tensor) -> torch.Tensor:
        """K and V of blocks [n] as float32 [2, n, block_size, kv_heads, head_size]."""
        raw = self.data.view(torch.uint8)[:, blocks].view(self.data.dtype)
        return dequantize(raw, self.scales[:, blocks])

    def write(self, slots: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Quantize k and v [T, kv_heads, head_size] into slots [T], and put into k and v what was stored.

        Attention over fresh K and V then sees what attention over the cache will see.
        """
        for part, x in enumerate((k, v)):
            numbers, scales = quantize(x, self.data.dtype)
            self.data.view(torch.uint8)[part].flatten(0, 1).index_copy_(0, slots, numbers.view(torch.uint8))
            self.scales[part].flatten(0, 1).index_copy_(0, slots, scales)
            x.copy_(dequantize(numbers, scales))


KVCache = torch.Tensor | QuantizedKV


def quantize(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers [..., head_size] of that dtype and scales [...] for x [..., head_size]. NaN and infinity give NaN back.

    int8 rounds half to even, float8_e4m3fn as torch rounds.
    """
    x = x.float()
    scales = x.abs().amax(-1) * (1.0 / LARGEST[dtype])
    scales = torch.where(scales.isfinite(), scales, torch.nan)
    usable = scales > SMALLEST_SCALE
    scales = torch.where(usable | scales.isnan(), scales, 0.0)
    scaled = x * torch.where(usable, scales.reciprocal(), 0.0)[..., None]
    if dtype is torch.int8:
        scaled = scaled.nan_to_num().round().clamp(-LARGEST[dtype], LARGEST[dtype])
    return scaled.to(dtype), scales


def dequantize(numbers: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """What quantize's answer stands for, as float32."""
    return numbers.float() * scales[..., None]
