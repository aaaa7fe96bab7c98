"""Eight float32 lanes as a numba value, so that a kernel states its vector code instead of hoping for it.

Kernels walk memory by flat element offsets from an array's first element, so strided views need no copies. Arrays of
uint16 hold bfloat16 bit patterns: loads widen them, stores round to nearest even, and all arithmetic is float32.
The values are LLVM vectors; LLVM lowers them to whatever the CPU has (one AVX register, two SSE or NEON ones).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic as _numba_intrinsic
from numba.extending import models, register_model

# What the decorator makes is called from compiled code only, with fewer arguments than its Python form takes.
intrinsic: Callable[[Callable[..., Any]], Any] = _numba_intrinsic

LANES = 8

_F32, _I32, _I16 = ir.FloatType(), ir.IntType(32), ir.IntType(16)
_VEC, _IVEC, _HVEC, _BVEC = (ir.VectorType(t, LANES) for t in (_F32, _I32, _I16, ir.IntType(8)))


class Vec8(types.Type):
    """numba's type of eight float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Vec8")


vec8 = Vec8()


@register_model(Vec8)
class _Vec8Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VEC)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    lane0 = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(lane0, ir.Constant(kind, ir.Undefined), zeros)


def _iconst(number: int) -> Any:
    return ir.Constant(_IVEC, [number] * LANES)


@intrinsic
def load(typingctx: Any, array: Any, offset: Any) -> Any:
    """Read lanes array[offset : offset + 8], flat; float32, int8, or bits: bfloat16 in uint16, e4m3 in uint8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *args)
        if signature.args[0].dtype == types.float32:
            return builder.load(builder.bitcast(pointer, _VEC.as_pointer()), align=4)
        if signature.args[0].dtype in (types.int8, types.uint8):
            byte = builder.load(builder.bitcast(pointer, _BVEC.as_pointer()), align=1)
            if signature.args[0].dtype == types.int8:
                return builder.sitofp(builder.sext(byte, _IVEC), _VEC)
            # e4m3's exponent and mantissa in float32's places; its exponents begin 120 lower. Right for subnormals too.
            wide = builder.zext(byte, _IVEC)
            size = builder.shl(builder.and_(wide, _iconst(0x7F)), _iconst(20))
            sign = builder.shl(builder.and_(wide, _iconst(0x80)), _iconst(24))
            scaled = builder.fmul(builder.bitcast(size, _VEC), ir.Constant(_VEC, [2.0**120] * LANES))
            return builder.bitcast(builder.or_(builder.bitcast(scaled, _IVEC), sign), _VEC)
        half = builder.load(builder.bitcast(pointer, _HVEC.as_pointer()), align=2)
        return builder.bitcast(builder.shl(builder.zext(half, _IVEC), _iconst(16)), _VEC)

    return vec8(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write lanes to array[offset : offset + 8], flat; rounds to nearest even where the array holds bfloat16 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        if signature.args[0].dtype == types.float32:
            builder.store(args[2], builder.bitcast(pointer, _VEC.as_pointer()), align=4)
        else:
            bits = builder.bitcast(args[2], _IVEC)
            odd = builder.and_(builder.lshr(bits, _iconst(16)), _iconst(1))
            rounded = builder.lshr(builder.add(bits, builder.add(odd, _iconst(0x7FFF))), _iconst(16))
            # Rounding would carry a NaN's low bits into infinity; the quiet bit keeps it a NaN.
            quiet = builder.or_(builder.lshr(bits, _iconst(16)), _iconst(0x40))
            is_nan = builder.fcmp_unordered("uno", args[2], args[2])
            half = builder.trunc(builder.select(is_nan, quiet, rounded), _HVEC)
            builder.store(half, builder.bitcast(pointer, _HVEC.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec8), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """The same float32 in every lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], _VEC)

    return vec8(types.float32), codegen


@intrinsic
def multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, lane by lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_VEC, [_VEC] * 3), "llvm.fma.v8f32")
        return builder.call(function, args)

    return vec8(vec8, vec8, vec8), codegen


@intrinsic
def multiply(typingctx: Any, a: Any, b: Any) -> Any:
    """a * b, lane by lane."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args)

    return vec8(vec8, vec8), codegen


@intrinsic
def total(typingctx: Any, a: Any) -> Any:
    """Sum of the lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0]
        width = LANES
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(_I32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(_I32, width), list(range(width, 2 * width)))
            undefined = ir.Constant(value.type, ir.Undefined)
            value = builder.fadd(
                builder.shuffle_vector(value, undefined, low), builder.shuffle_vector(value, undefined, high)
            )
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return types.float32(vec8), codegen


@intrinsic
def exp_nonpositive(typingctx: Any, x: Any) -> Any:
    """e ** x for one float32 x <= 0, free of branches and calls; relative error 1e-7, 0 below -87, NaN stays NaN.

    Splits x into n ln 2 + r with |r| <= ln 2 / 2, takes a polynomial in r, and builds 2 ** n in the exponent bits, so a
    loop of it vectorises where a call to libm would not.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def const(number: float) -> Any:
            return ir.Constant(_F32, number)

        rint = builder.module.declare_intrinsic("llvm.rint", [_F32])
        too_small = builder.fcmp_ordered("<", args[0], const(-87.0))
        x = builder.select(too_small, const(-87.0), args[0])
        n = builder.call(rint, [builder.fmul(x, const(_to_f32(1.4426950408889634)))])
        r = builder.fma(n, const(-0.693359375), x)
        r = builder.fma(n, const(_to_f32(2.12194440e-4)), r)
        p = const(_to_f32(1.0 / 5040))
        for coefficient in (1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0):
            # float32 constants must be given as exactly representable doubles
            p = builder.fma(p, r, const(_to_f32(coefficient)))
        bits = builder.shl(builder.add(builder.fptosi(n, _I32), ir.Constant(_I32, 127)), ir.Constant(_I32, 23))
        value = builder.fmul(p, builder.bitcast(bits, _F32))
        return builder.select(too_small, const(0.0), value)

    return types.float32(types.float32), codegen


def _to_f32(number: float) -> float:
    return float(np.float32(number))


@intrinsic
def get(typingctx: Any, array: Any, offset: Any) -> Any:
    """One element as float32, by flat offset; array as for load."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *args))
        if signature.args[0].dtype == types.float32:
            return value
        return builder.bitcast(builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16)), _F32)

    return types.float32(array, types.intp), codegen


@intrinsic
def put(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write one float32, by flat offset; array and rounding as for store."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        if signature.args[0].dtype == types.float32:
            builder.store(args[2], pointer)
        else:
            bits = builder.bitcast(args[2], _I32)
            high = builder.lshr(bits, ir.Constant(_I32, 16))
            odd = builder.and_(high, ir.Constant(_I32, 1))
            carried = builder.add(bits, builder.add(odd, ir.Constant(_I32, 0x7FFF)))
            rounded = builder.lshr(carried, ir.Constant(_I32, 16))
            quiet = builder.or_(high, ir.Constant(_I32, 0x40))
            is_nan = builder.fcmp_unordered("uno", args[2], args[2])
            builder.store(builder.trunc(builder.select(is_nan, quiet, rounded), _I16), pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), codegen


@intrinsic
def get_int(typingctx: Any, array: Any, offset: Any) -> Any:
    """One element of an integer array by flat offset, without numba's test for negative indices."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args))

    return array.dtype(array, types.intp), codegen


@intrinsic
def float_bits(typingctx: Any, value: Any) -> Any:
    """The bit pattern of a float32, as an integer; for numbers of one sign it orders as they do."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], _I32), ir.IntType(64))

    return types.int64(types.float32), codegen
