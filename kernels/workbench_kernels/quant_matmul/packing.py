"""How quantized weights are stored. All implementations read this format and no other.

A weight matrix W [N, K] (outputs, inputs) becomes `data` and `scales`; its value is data * scale, there is no zero
point. scales [N, K / group_size], in the model's dtype: one for each group of consecutive inputs of an output.

    format   data                                  group_size
    int8     int8 [N, K], -127 .. 127              K (one scale per output) or a divisor of K
    int4     uint8 [N, K / 2], two values a byte   32, 64 or 128
    nf4      uint8 [N, K / 2], two codes a byte    32, 64 or 128
    fp8      float8_e4m3fn [N, K]                  K

An int4 value v from -8 to 7 is stored as v + 8. A nf4 code is a place in NF4_VALUES, the 16 numbers that QLoRA
(Dettmers et al., 2023) chose for weights that are normally distributed. Byte j of a row holds input 2 j in its low
four bits and input 2 j + 1 in its high four.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch

FORMATS = ("int8", "int4", "nf4", "fp8")
PACKED = ("int4", "nf4")  # two values a byte
PACKED_GROUP_SIZES = (32, 64, 128)
_LARGEST = {"int8": 127.0, "int4": 7.0, "nf4": 1.0, "fp8": 448.0}
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight matrix in one of FORMATS; see the module for the shapes."""

    format: str
    data: torch.Tensor
    scales: torch.Tensor
    group_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.data.shape[0], self.scales.shape[1] * self.group_size

    @property
    def num_bytes(self) -> int:
        """What it holds."""
        return self.data.nbytes + self.scales.nbytes


def quantize(weight: torch.Tensor, format: str, group_size: int | None = None) -> QuantizedWeight:
    """Round weight [N, K] to the nearest values of a format, each group scaled so that its largest one just fits.

    group_size None: K for int8 and fp8, 128 for int4, 64 for nf4. Raises ValueError for a format or group size that
    there is not, and for a K that is no multiple of the group size.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    outputs, inputs = weight.shape
    size = group_size or {"int4": 128, "nf4": 64}.get(format, inputs)
    if format in PACKED and size not in PACKED_GROUP_SIZES:
        raise ValueError(f"{format} takes group sizes {', '.join(map(str, PACKED_GROUP_SIZES))}, not {size}")
    if format == "fp8" and size != inputs:
        raise ValueError(f"fp8 has one scale per output: group_size must be None or {inputs}, not {size}")
    if inputs % size:
        raise ValueError(f"{inputs} inputs are no multiple of group_size={size}; choose another one")
    groups = weight.float().view(outputs, inputs // size, size)
    largest = groups.abs().amax(-1, keepdim=True)
    scales = (torch.where(largest > 0, largest, 1.0) / _LARGEST[format]).to(weight.dtype)
    scaled = (groups / scales.float()).view(outputs, inputs)
    scales = scales[..., 0]
    if format == "fp8":
        return QuantizedWeight(format, scaled.clamp(-448, 448).to(torch.float8_e4m3fn), scales, size)
    if format == "nf4":
        middles = torch.tensor([(a + b) / 2 for a, b in pairwise(NF4_VALUES)], device=weight.device)
        codes = torch.bucketize(scaled.contiguous(), middles).to(torch.uint8)
        return QuantizedWeight(format, codes[:, 0::2] | (codes[:, 1::2] << 4), scales, size)
    low, high = (-8, 7) if format == "int4" else (-127, 127)
    whole = scaled.round().clamp(low, high).to(torch.int8)
    if format == "int8":
        return QuantizedWeight(format, whole, scales, size)
    nibbles = (whole + 8).view(torch.uint8)
    return QuantizedWeight(format, nibbles[:, 0::2] | (nibbles[:, 1::2] << 4), scales, size)


def dequantize(weight: QuantizedWeight) -> torch.Tensor:
    """The matrix [N, K] that it stands for, in float32."""
    if weight.format == "int4":
        values = _unpacked(weight).float() - 8
    elif weight.format == "nf4":
        values = torch.tensor(NF4_VALUES, device=weight.data.device)[_unpacked(weight).int()]
    else:
        values = weight.data.float()
    return values * weight.scales.float().repeat_interleave(weight.group_size, 1)


def _unpacked(weight: QuantizedWeight) -> torch.Tensor:
    return torch.stack((weight.data & 15, weight.data >> 4), -1).flatten(1)
