"""Vectors of float32 for numba kernels: as many lanes as the CPU computes at once.

Numba leaves it to LLVM to find vectors in loops, and LLVM cannot keep the sums of a
small matrix product in registers. Here a kernel says what is a vector. The arrays are
C-contiguous float32 of two dimensions; nothing checks that an index lies inside.

The functions write LLVM's instructions, for kernels that are built of many small calls
would take numba several times as long to compile. Numba's cache of compiled kernels does
not see when this file changes: touch the files of the kernels then.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
# mypy: disable-error-code="import-untyped, attr-defined"
from __future__ import annotations

import math
from typing import Any

from llvmlite import binding, ir
from numba import extending, njit
from numba.core import cgutils, types

intrinsic: Any = extending.intrinsic

# For parts of a kernel: compiled faster, as Python cannot call them.
inner: Any = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _host_lanes() -> int:
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


LANES = _host_lanes()
# Of a tile of a matrix product, whose sums stay in registers. With AVX-512 the tokens come
# from memory as they are multiplied, so that one column does, and fits more widths.
ROWS, COLUMNS = (12, 1) if LANES == 16 else (6, 2)

_INDEX = types.intp
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)

# 2**f = 1 + f * (c0 + c1 f + ...) on [-0.5, 0.5], with a relative error below 1e-7.
_EXP2 = (0.69314700, 0.24022242, 0.055507336, 0.0096715130, 0.0013264727)
_LOWEST = -126.0  # exponent of the smallest normal float32
_TO_INTEGER = 12582912.0  # its sum with x has the integer nearest to x in its last bits


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(f"Float32x{LANES}")


_LANES_TYPE = _Lanes()
_TILE = types.UniTuple(_LANES_TYPE, ROWS * COLUMNS)


@extending.register_model(_Lanes)
class _LanesModel(extending.models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _VECTOR)


def _constant(value):
    return ir.Constant(_VECTOR, [value] * LANES)


def _call(builder, name, result, arguments, **options):
    """Call one of LLVM's own functions for vectors."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    full_name = f"llvm.{name}.v{LANES}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, full_name)
    return builder.call(function, arguments, **options)


def _address(context, builder, kind, array, row, column):
    view = context.make_array(kind)(context, builder, array)
    width = builder.extract_value(view.shape, 1)
    return builder.gep(view.data, [builder.add(builder.mul(row, width), column)])


def _load(builder, pointer):
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder, vector, pointer) -> None:
    builder.store(vector, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _splat(builder, scalar):
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_BITS, [0] * LANES))


def _multiply_add(builder, a, b, c):
    return _call(builder, "fmuladd", _VECTOR, [a, b, c])


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _exp2(builder, x):
    """2**x, for x up to 128; what is below the smallest normal number becomes it."""
    # In this order, for of two numbers of which one is none the second is taken.
    x = _larger(builder, _constant(_LOWEST), x)
    shifted = builder.fadd(x, _constant(_TO_INTEGER))
    f = builder.fsub(x, builder.fsub(shifted, _constant(_TO_INTEGER)))
    power = _constant(_EXP2[-1])
    for coefficient in (*_EXP2[-2::-1], 1.0):
        power = _multiply_add(builder, power, f, _constant(coefficient))
    shift = ir.Constant(_BITS, [23] * LANES)  # to where float32 has the exponent
    exponent = builder.shl(builder.bitcast(shifted, _BITS), shift)
    return builder.bitcast(builder.add(builder.bitcast(power, _BITS), exponent), _VECTOR)


def _over_sigmoid(builder, x):
    """1 + exp(-x)."""
    scaled = builder.fmul(x, _constant(math.log2(math.e)))
    power = _exp2(builder, builder.fneg(_larger(builder, scaled, _constant(_LOWEST))))
    return builder.fadd(power, _constant(1.0))


def _sigmoid(builder, x):
    return builder.fdiv(_constant(1.0), _over_sigmoid(builder, x))


def _silu(builder, x):
    return builder.fdiv(x, _over_sigmoid(builder, x))


def _softplus(builder, x):
    """log(1 + exp(x)), to full relative precision where that is small."""
    size = _larger(builder, x, builder.fneg(x))
    e = _exp2(builder, builder.fmul(size, _constant(-math.log2(math.e))))
    s = builder.fdiv(e, builder.fadd(e, _constant(2.0)))
    square = builder.fmul(s, s)
    series = _constant(2 / 13)  # log(1 + e) = 2 s + 2/3 s**3 + ..., s at most 1/3
    for k in (11, 9, 7, 5, 3, 1):
        series = _multiply_add(builder, series, square, _constant(2 / k))
    return _multiply_add(builder, series, s, _larger(builder, x, _constant(0.0)))


def _elementwise(count, compute):
    """Make a function of ``count`` vectors for kernels out of one that writes LLVM."""

    def codegen(context, builder, signature, args):
        return compute(builder, *args)

    signature = _LANES_TYPE(*[_LANES_TYPE] * count)
    if count == 1:
        return intrinsic(lambda typingctx, a: (signature, codegen))
    if count == 2:
        return intrinsic(lambda typingctx, a, b: (signature, codegen))
    return intrinsic(lambda typingctx, a, b, c: (signature, codegen))


add = _elementwise(2, lambda builder, a, b: builder.fadd(a, b))
subtract = _elementwise(2, lambda builder, a, b: builder.fsub(a, b))
multiply = _elementwise(2, lambda builder, a, b: builder.fmul(a, b))
multiply_add = _elementwise(3, _multiply_add)
exp2 = _elementwise(1, _exp2)
sigmoid = _elementwise(1, _sigmoid)
silu = _elementwise(1, _silu)
larger = _elementwise(2, _larger)
smaller = _elementwise(2, _smaller)
softplus = _elementwise(1, _softplus)


@intrinsic
def load(typingctx, array, row, column):
    """Lanes from array[row, column] on."""

    def codegen(context, builder, signature, args):
        return _load(builder, _address(context, builder, signature.args[0], *args))

    return _LANES_TYPE(array, _INDEX, _INDEX), codegen


@intrinsic
def store(typingctx, array, row, column, vector):
    """Put lanes to array[row, column] and on."""

    def codegen(context, builder, signature, args):
        pointer = _address(context, builder, signature.args[0], *args[:3])
        _store(builder, args[3], pointer)
        return context.get_dummy_value()

    return types.void(array, _INDEX, _INDEX, _LANES_TYPE), codegen


@intrinsic
def splat(typingctx, scalar):
    """Return one float32 in all lanes."""

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0])

    return _LANES_TYPE(types.float32), codegen


@intrinsic
def total(typingctx, vector):
    """Return the sum over the lanes."""

    def codegen(context, builder, signature, args):
        arguments = [ir.Constant(_FLOAT, 0.0), args[0]]
        return _call(
            builder, "vector.reduce.fadd", _FLOAT, arguments, fastmath=("reassoc",)
        )

    return types.float32(_LANES_TYPE), codegen


def _tile_addresses(context, builder, kind, array, row, column):
    for m in range(ROWS):
        at = builder.add(row, ir.Constant(row.type, m))
        first = _address(context, builder, kind, array, at, column)
        for n in range(COLUMNS):
            yield builder.gep(first, [ir.Constant(row.type, n * LANES)])


@intrinsic
def zero_tile(typingctx):
    """Return ROWS by COLUMNS vectors of zeros."""

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, _TILE, [_constant(0.0)] * len(_TILE))

    return _TILE(), codegen


@intrinsic
def load_tile(typingctx, array, row, column):
    """ROWS by COLUMNS vectors from array[row, column] on."""

    def codegen(context, builder, signature, args):
        pointers = _tile_addresses(context, builder, signature.args[0], *args)
        vectors = [_load(builder, pointer) for pointer in pointers]
        return context.make_tuple(builder, _TILE, vectors)

    return _TILE(array, _INDEX, _INDEX), codegen


@intrinsic
def store_tile(typingctx, array, row, column, tile):
    """Put a tile to array[row, column] and on."""

    def codegen(context, builder, signature, args):
        pointers = _tile_addresses(context, builder, signature.args[0], *args[:3])
        vectors = cgutils.unpack_tuple(builder, args[3])
        for vector, pointer in zip(vectors, pointers, strict=True):
            _store(builder, vector, pointer)
        return context.get_dummy_value()

    return types.void(array, _INDEX, _INDEX, _TILE), codegen


@intrinsic
def add_product(typingctx, tile, x, row, k, weight, weight_row, column):
    """Add x[row : row + ROWS, k] times weight[weight_row, column and on] to a tile."""

    def codegen(context, builder, signature, args):
        tile, x, row, k, *weight_at = args
        sums = cgutils.unpack_tuple(builder, tile)
        first = _address(context, builder, signature.args[4], *weight_at)
        steps = [ir.Constant(k.type, n * LANES) for n in range(COLUMNS)]
        weights = [_load(builder, builder.gep(first, [step])) for step in steps]
        for m in range(ROWS):
            at = builder.add(row, ir.Constant(row.type, m))
            pointer = _address(context, builder, signature.args[1], x, at, k)
            value = _splat(builder, builder.load(pointer))
            for n in range(COLUMNS):
                which = m * COLUMNS + n
                sums[which] = _multiply_add(builder, value, weights[n], sums[which])
        return context.make_tuple(builder, _TILE, sums)

    return _TILE(_TILE, x, _INDEX, _INDEX, weight, _INDEX, _INDEX), codegen
