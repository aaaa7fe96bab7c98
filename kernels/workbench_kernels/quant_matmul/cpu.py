"""Products with quantized weights on a CPU: few rows read the packed weights, many rows go through torch's product.

A decode step is as fast as its weights come out of memory, so they are read packed and widened in registers, eight at
a time; with several rows the matrix is widened two outputs at a time, once for all of them. Measured at widths 576
and 1,536 (AVX2, one thread, float32 activations, of the time of a float32 product): one row 0.4 (int8) and 0.45 (int4),
16 rows 0.55 (int8), 0.6 (int4) and 0.7 (nf4), 32 rows 0.8 to 1.1. Above MANY_ROWS, writing the matrix out is as quick.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types

from workbench_kernels.arrays import Array, as_array
from workbench_kernels.jit import kernel
from workbench_kernels.quant_matmul.packing import NF4_VALUES, QuantizedWeight
from workbench_kernels.simd import (
    LANES,
    get,
    intrinsic,
    load,
    multiply,
    multiply_add,
    put,
    splat,
    store,
    total,
    vec8,
)

# From this many rows on the matrix is written out in float32, a part of it at a time, and torch multiplies.
MANY_ROWS = 72
# Below this many multiply-adds a call is over before a second thread has woken up.
PARALLEL_WORK = 1_000_000
# Inputs whose weights are widened at once for two outputs, between 2 rows and MANY_ROWS.
INPUTS_AT_ONCE = 768
# Outputs whose weights are written out at once: they should still be in the cache when they are multiplied.
OUTPUTS_AT_ONCE = 512

_ZERO = np.float32(0.0)
_LANE = ir.IntType(32)
_LANES_I32 = ir.VectorType(_LANE, LANES)
_LANES_F32 = ir.VectorType(ir.FloatType(), LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _each_lane(numbers: Sequence[int]) -> Any:
    return ir.Constant(_LANES_I32, list(numbers))


@intrinsic
def _eight(typingctx: Any, data: Any, first: Any, pairs: Any) -> Any:
    """Values first .. first + 7 of packed weights, flat, before their scale; first is a multiple of eight.

    data: int8 values, or uint8 bytes of two. pairs: None where these are whole numbers, else what each byte stands for,
    two float32 seen as one float64.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data_type, _, pairs_type = signature.args
        if data_type.dtype == types.int8:
            place = _pointer(context, builder, data_type, args[0], args[1])
            eight_bytes = ir.VectorType(ir.IntType(8), LANES)
            values = builder.load(builder.bitcast(place, eight_bytes.as_pointer()), align=1)
            return builder.sitofp(builder.sext(values, _LANES_I32), _LANES_F32)
        half = builder.lshr(args[1], ir.Constant(args[1].type, 1))
        place = _pointer(context, builder, data_type, args[0], half)
        if pairs_type == types.none:  # one word holds all eight: each lane shifts its own four bits down
            word = builder.load(builder.bitcast(place, _LANE.as_pointer()), align=1)
            lane0 = builder.insert_element(ir.Constant(_LANES_I32, ir.Undefined), word, ir.Constant(_LANE, 0))
            words = builder.shuffle_vector(lane0, ir.Constant(_LANES_I32, ir.Undefined), _each_lane([0] * LANES))
            fours = builder.and_(builder.lshr(words, _each_lane(range(0, 32, 4))), _each_lane([15] * LANES))
            return builder.sitofp(builder.sub(fours, _each_lane([8] * LANES)), _LANES_F32)
        table = context.make_array(pairs_type)(context, builder, args[2]).data
        four_pairs = ir.VectorType(ir.DoubleType(), LANES // 2)
        values = ir.Constant(four_pairs, ir.Undefined)
        for index in range(LANES // 2):
            byte = builder.zext(builder.load(builder.gep(place, [ir.Constant(_LANE, index)])), ir.IntType(64))
            values = builder.insert_element(values, builder.load(builder.gep(table, [byte])), ir.Constant(_LANE, index))
        return builder.bitcast(values, _LANES_F32)

    return vec8(data, types.intp, pairs), codegen


@kernel
def _one_row(x: Array, data: Array, pairs: Any, scales: Array, group: int, out: Array, first: int, last: int) -> None:
    """Outputs first..last of out [1, N] for x [1, K]. Four sums at once hide the latency of multiply-add."""
    inputs = x.shape[1]
    groups = inputs // group
    for output in range(first, last):
        row = output * inputs
        result = splat(_ZERO)
        for index in range(groups):
            sum0 = splat(_ZERO)
            sum1 = sum0
            sum2 = sum0
            sum3 = sum0
            k, end = index * group, (index + 1) * group
            while k + 4 * LANES <= end:
                sum0 = multiply_add(load(x, k), _eight(data, row + k, pairs), sum0)
                sum1 = multiply_add(load(x, k + LANES), _eight(data, row + k + LANES, pairs), sum1)
                sum2 = multiply_add(load(x, k + 2 * LANES), _eight(data, row + k + 2 * LANES, pairs), sum2)
                sum3 = multiply_add(load(x, k + 3 * LANES), _eight(data, row + k + 3 * LANES, pairs), sum3)
                k += 4 * LANES
            while k < end:
                sum0 = multiply_add(load(x, k), _eight(data, row + k, pairs), sum0)
                k += LANES
            scale = splat(get(scales, output * groups + index))
            result = multiply_add(sum0, scale, multiply_add(sum1, scale, result))
            result = multiply_add(sum2, scale, multiply_add(sum3, scale, result))
        put(out, output, total(result))


@kernel
def _add(out: Array, place: int, value: Any, fresh: bool) -> None:
    """Put a sum, or what there is so far and it."""
    put(out, place, value if fresh else get(out, place) + value)


@kernel
def _few_rows(
    x: Array, data: Array, pairs: Any, scales: Array, group: int, out: Array, first: int, last: int, scratch: Array
) -> None:
    """Outputs first..last of out [M, N] for x [M, K], M a multiple of 4: tiles of four rows and two outputs.

    The weights of two outputs are widened once for all tiles, into scratch [2, n]: n inputs at a time, so that the part
    of x that each pair of outputs reads again stays in the fast cache. out holds the sums so far.
    """
    rows, inputs = x.shape
    groups, width, part = inputs // group, out.shape[1], scratch.shape[1]
    for begin in range(0, inputs, part):
        size = min(part, inputs - begin)
        for output in range(first, last, 2):
            other = min(output + 1, last - 1)  # the last of an odd number stands alone
            k = 0
            while k < size:
                index = (begin + k) // group
                end = min((index + 1) * group - begin, size)
                scale0 = splat(get(scales, output * groups + index))
                scale1 = splat(get(scales, other * groups + index))
                from0, from1 = output * inputs + begin, other * inputs + begin
                while k < end:
                    store(scratch, k, multiply(_eight(data, from0 + k, pairs), scale0))
                    store(scratch, part + k, multiply(_eight(data, from1 + k, pairs), scale1))
                    k += LANES
            for row in range(0, rows, 4):
                x0 = row * inputs + begin
                x1, x2, x3 = x0 + inputs, x0 + 2 * inputs, x0 + 3 * inputs
                sum00 = splat(_ZERO)
                sum01 = sum00
                sum02 = sum00
                sum03 = sum00
                sum10 = sum00
                sum11 = sum00
                sum12 = sum00
                sum13 = sum00
                for k in range(0, size, LANES):
                    w0 = load(scratch, k)
                    w1 = load(scratch, part + k)
                    value = load(x, x0 + k)
                    sum00 = multiply_add(value, w0, sum00)
                    sum10 = multiply_add(value, w1, sum10)
                    value = load(x, x1 + k)
                    sum01 = multiply_add(value, w0, sum01)
                    sum11 = multiply_add(value, w1, sum11)
                    value = load(x, x2 + k)
                    sum02 = multiply_add(value, w0, sum02)
                    sum12 = multiply_add(value, w1, sum12)
                    value = load(x, x3 + k)
                    sum03 = multiply_add(value, w0, sum03)
                    sum13 = multiply_add(value, w1, sum13)
                target = row * width
                _add(out, target + output, total(sum00), begin == 0)
                _add(out, target + width + output, total(sum01), begin == 0)
                _add(out, target + 2 * width + output, total(sum02), begin == 0)
                _add(out, target + 3 * width + output, total(sum03), begin == 0)
                if other > output:
                    _add(out, target + other, total(sum10), begin == 0)
                    _add(out, target + width + other, total(sum11), begin == 0)
                    _add(out, target + 2 * width + other, total(sum12), begin == 0)
                    _add(out, target + 3 * width + other, total(sum13), begin == 0)


@kernel
def _write_out(data: Array, pairs: Any, scales: Array, group: int, out: Array, first: int, last: int) -> None:
    """Weights of outputs first..last in float32, to out [last - first, K]."""
    inputs = out.shape[1]
    groups = inputs // group
    for output in range(first, last):
        for index in range(groups):
            scale = splat(get(scales, output * groups + index))
            for k in range(index * group, (index + 1) * group, LANES):
                store(out, (output - first) * inputs + k, multiply(_eight(data, output * inputs + k, pairs), scale))


def _pairs() -> Array:
    """What each byte of two NF4 codes stands for."""
    values = np.array(NF4_VALUES, np.float32)
    return np.stack((np.tile(values, 16), np.repeat(values, 16)), 1).view(np.float64)[:, 0]


_NF4_PAIRS = _pairs()


def widen(weight: QuantizedWeight, out: torch.Tensor) -> None:
    """Write a matrix in float32 to out [N, K]: what a product does with its weights besides multiplying."""
    packed = (as_array(weight.data), _pairs_of(weight), as_array(weight.scales), weight.group_size)
    _write_out(*packed, out.numpy(), 0, weight.shape[0])


def _pairs_of(weight: QuantizedWeight) -> Array | None:
    return _NF4_PAIRS if weight.format == "nf4" else None


def supports(x: torch.Tensor, weight: QuantizedWeight) -> bool:
    """True if these kernels can read both."""
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and weight.format in ("int8", "int4", "nf4")
        and weight.group_size % LANES == 0
    )


def quant_matmul(
    x: torch.Tensor,
    weight: QuantizedWeight,
    bias: torch.Tensor | None = None,
    pool: ThreadPoolExecutor | None = None,
    workers: int = 1,
) -> torch.Tensor:
    """As reference.quant_matmul, for x in float32 or bfloat16 and groups that are multiples of eight inputs.

    Sums in float32. pool: threads for what is worth it, if torch may use more than one for this step.
    """
    rows, (outputs, inputs) = x.shape[0], weight.shape
    if x.shape[1] != inputs:
        raise ValueError(f"x has {x.shape[1]} inputs and the weight {inputs}")
    packed = (as_array(weight.data), _pairs_of(weight), as_array(weight.scales), weight.group_size)
    if rows >= MANY_ROWS:
        out = _many_rows(x.float(), outputs, packed)
    else:
        padded = rows if rows == 1 else -(-rows // 4) * 4
        source = torch.nn.functional.pad(x, (0, 0, 0, padded - rows)) if padded > rows else x.contiguous()
        out = torch.empty(padded, outputs)
        run = _one_row if padded == 1 else _widening_rows
        arguments = (as_array(source), *packed, out.numpy())
        busy = workers if pool is not None and padded * outputs * inputs >= PARALLEL_WORK else 1
        parts = min(busy, torch.get_num_threads())
        cuts = [outputs * part // parts for part in range(parts + 1)]
        others = [pool.submit(run, *arguments, a, b) for a, b in pairwise(cuts[1:])] if pool is not None else []
        run(*arguments, cuts[0], cuts[1])
        for other in others:
            other.result()
        out = out[:rows]
    return (out if bias is None else out + bias.float()).to(x.dtype)


def _widening_rows(x: Array, *arguments: Any) -> None:
    """_few_rows with a scratch of its own, as each thread needs one."""
    _few_rows(x, *arguments, np.empty((2, min(INPUTS_AT_ONCE, x.shape[1])), np.float32))


def _many_rows(x: torch.Tensor, outputs: int, packed: tuple[Any, ...]) -> torch.Tensor:
    out = torch.empty(x.shape[0], outputs)
    scratch = torch.empty(min(OUTPUTS_AT_ONCE, outputs), x.shape[1])
    for first in range(0, outputs, OUTPUTS_AT_ONCE):
        last = min(first + OUTPUTS_AT_ONCE, outputs)
        part = scratch[: last - first]
        _write_out(*packed, part.numpy(), first, last)
        torch.mm(x, part.t(), out=out[:, first:last])
    return out
