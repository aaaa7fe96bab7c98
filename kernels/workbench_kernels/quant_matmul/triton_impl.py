"""Products with quantized weights in Triton, for the few rows of a decode step.

Such a product takes as long as reading the weights, so they are read packed, once, and widened in registers: whole
numbers up to 127 and float8 values are exact in bfloat16, the scale of a group multiplies its float32 sum. The idea of
dequantizing inside the product is that of weight-only quantization's kernels, as in AWQ (Lin et al., 2024).
"""

from typing import Any

import torch
import triton
import triton.language as tl

from workbench_kernels.quant_matmul.packing import QuantizedWeight
from workbench_kernels.triton_support import dot_type, kernel, narrow

_MOST_ROWS = 64
_INPUTS = 128


@kernel
def _matmul(
    x,
    data,
    scales,
    bias,
    out,
    num_rows,
    num_outputs,
    num_inputs,
    group_size,
    x_stride,
    INT4: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    DOT: tl.constexpr,
):
    """A tile [ROWS, OUTPUTS] of the product, INPUTS inputs at a time, which never straddle two groups."""
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = m[:, None] < num_rows
    output = n[:, None] < num_outputs
    num_groups = num_inputs // group_size
    acc = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, num_inputs, INPUTS):
        # A whole number of steps makes a group, or (only where there is one group) the last step is cut off.
        scale = tl.load(scales + n * num_groups + start // group_size, mask=n < num_outputs, other=0.0)
        if INT4:
            pair = tl.arange(0, INPUTS // 2)
            inputs = x + m[:, None].to(tl.int64) * x_stride + start + 2 * pair[None, :]
            inside = output & (start + 2 * pair < num_inputs)[None, :]
            place = n[:, None].to(tl.int64) * (num_inputs // 2) + start // 2 + pair[None, :]
            byte = tl.load(data + place, mask=inside, other=0).to(tl.int32)
            even = tl.load(inputs, mask=row, other=0.0).to(DOT)
            odd = tl.load(inputs + 1, mask=row, other=0.0).to(DOT)
            low = ((byte & 15) - 8).to(DOT)
            high = ((byte >> 4) - 8).to(DOT)
            part = tl.dot(even, tl.trans(low), input_precision="ieee")
            part = tl.dot(odd, tl.trans(high), part, input_precision="ieee")
        else:
            k = start + tl.arange(0, INPUTS)
            inputs = x + m[:, None].to(tl.int64) * x_stride + k[None, :]
            inside = (k < num_inputs)[None, :]
            values = tl.load(data + n[:, None].to(tl.int64) * num_inputs + k[None, :], mask=output & inside, other=0.0)
            part = tl.dot(
                tl.load(inputs, mask=row & inside, other=0.0).to(DOT),
                tl.trans(values.to(tl.float32).to(DOT)),
                input_precision="ieee",
            )
        acc += part * scale.to(tl.float32)[None, :]
    if bias is not None:
        acc += tl.load(bias + n, mask=n < num_outputs, other=0.0).to(tl.float32)[None, :]
    inside = (m[:, None] < num_rows) & (n[None, :] < num_outputs)
    tl.store(out + m[:, None].to(tl.int64) * num_outputs + n[None, :], narrow(acc, out.dtype.element_ty), mask=inside)


def _step(weight: QuantizedWeight) -> int:
    """Inputs taken at a time: the largest power of two up to _INPUTS that a group is a multiple of."""
    size, inputs = weight.group_size, weight.shape[1]
    if size == inputs:
        return min(_INPUTS, max(32, triton.next_power_of_2(inputs)))
    return min(_INPUTS, size & -size)


def quant_matmul(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None = None) -> torch.Tensor:
    """As reference.quant_matmul, for x [M, K] with any stride between rows. Groups are multiples of 16 inputs.

    Meant for up to some 64 rows; with more, the weights are read again for every 64.
    """
    (rows, inputs), (outputs, wanted) = x.shape, weight.shape
    if inputs != wanted:
        raise ValueError(f"x has {inputs} inputs and the weight {wanted}")
    step = _step(weight)
    if step < 16:
        raise ValueError(f"groups must be multiples of 16 inputs, not {weight.group_size}")
    out = torch.empty((rows, outputs), dtype=x.dtype, device=x.device)
    tile = min(_MOST_ROWS, max(16, triton.next_power_of_2(rows)))
    # Narrow tiles for narrow matrices: every multiprocessor should have a part to read.
    width = 16 if outputs <= 4096 else 32 if outputs <= 16384 else 64
    shape: dict[str, Any] = {"ROWS": tile, "OUTPUTS": width, "INPUTS": step, "DOT": dot_type(x.dtype)}
    _matmul[(triton.cdiv(outputs, width), triton.cdiv(rows, tile))](
        x,
        weight.data,
        weight.scales,
        bias,
        out,
        rows,
        outputs,
        inputs,
        weight.group_size,
        x.stride(0),
        INT4=weight.format == "int4",
        **shape,
        num_warps=4,
        num_stages=4,
    )
    return out
