"""Reads and writes by address, 128-bit products and 16-byte comparisons, as LLVM instructions.

Nothing here checks a bound: every caller has compared the address with the end of its record before.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from thalweg.formats.kernels.compile import hot

_I8, _I16, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (8, 16, 32, 64, 128))
_BYTES16 = ir.VectorType(_I8, 16)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(kind: Any, result: Any) -> Any:
    """An intrinsic that reads one little-endian unsigned integer of `kind` at any alignment."""

    def typed(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_pointer(builder, args[0], kind), align=1)
            return value if kind is _I64 else builder.zext(value, _I64)

        return result(types.int64), generate

    return typed


@intrinsic
def load_u8(typingctx, address):
    """The byte at `address`, as int64."""
    return _load(_I8, types.int64)(typingctx, address)


@intrinsic
def load_u32(typingctx, address):
    """Four bytes at `address`, little endian, as int64."""
    return _load(_I32, types.int64)(typingctx, address)


@intrinsic
def load_i64(typingctx, address):
    """Eight bytes at `address`, little endian, as int64."""
    return _load(_I64, types.int64)(typingctx, address)


@intrinsic
def load_u64(typingctx, address):
    """Eight bytes at `address`, little endian, as uint64."""
    return _load(_I64, types.uint64)(typingctx, address)


@intrinsic
def load_f64(typingctx, address):
    """The double at `address`."""

    def generate(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], ir.DoubleType()), align=1)

    return types.float64(types.int64), generate


def _store(kind: Any) -> Any:
    def typed(typingctx: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = args[1] if kind is _I64 else builder.trunc(args[1], kind)
            builder.store(word, _pointer(builder, args[0], kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64 if value != types.uint64 else types.uint64), generate

    return typed


@intrinsic
def store_u8(typingctx, address, value):
    """Writes the low byte of `value`."""
    return _store(_I8)(typingctx, address, value)


@intrinsic
def store_u16(typingctx, address, value):
    """Writes the low two bytes of `value`, little endian."""
    return _store(_I16)(typingctx, address, value)


@intrinsic
def store_u32(typingctx, address, value):
    """Writes the low four bytes of `value`, little endian."""
    return _store(_I32)(typingctx, address, value)


@intrinsic
def store_u64(typingctx, address, value):
    """Writes eight bytes, little endian."""
    return _store(_I64)(typingctx, address, value)


@intrinsic
def store_f64(typingctx, address, value):
    """Writes a double."""

    def generate(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], ir.DoubleType()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), generate


@intrinsic
def load_f32(typingctx, address):
    """The float at `address`."""

    def generate(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], ir.FloatType()), align=1)

    return types.float32(types.int64), generate


@intrinsic
def store_f32(typingctx, address, value):
    """Writes a float of four bytes."""

    def generate(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], ir.FloatType()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def copy_bytes(typingctx, target, source, length):
    """memcpy."""

    def generate(context, builder, signature, args):
        cgutils.raw_memcpy(
            builder, _pointer(builder, args[0], _I8), _pointer(builder, args[1], _I8), args[2], ir.Constant(_I64, 1)
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def move16(typingctx, target, source):
    """Copies 16 bytes."""

    def generate(context, builder, signature, args):
        block = builder.load(_pointer(builder, args[1], _BYTES16), align=1)
        builder.store(block, _pointer(builder, args[0], _BYTES16), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _splat(byte: int) -> Any:
    return ir.Constant(_BYTES16, [byte] * 16)


@intrinsic
def marks16(typingctx, address):
    """What is special among 16 bytes: bit i is set where byte i is a quote, a backslash or below a space; bit 16 + i
    where it is not ASCII."""

    def generate(context, builder, signature, args):
        block = builder.load(_pointer(builder, args[0], _BYTES16), align=1)
        special = builder.icmp_unsigned("==", block, _splat(0x22))
        special = builder.or_(special, builder.icmp_unsigned("==", block, _splat(0x5C)))
        special = builder.or_(special, builder.icmp_unsigned("<", block, _splat(0x20)))
        high = builder.icmp_signed("<", block, _splat(0))
        low_bits = builder.zext(builder.bitcast(special, _I16), _I64)
        high_bits = builder.zext(builder.bitcast(high, _I16), _I64)
        return builder.or_(low_bits, builder.shl(high_bits, ir.Constant(_I64, 16)))

    return types.int64(types.int64), generate


@hot
def signed(value: np.uint64) -> int:
    """The int64 with the same bits."""
    return np.int64(value)  # type: ignore[return-value]


@intrinsic
def trailing_zeros(typingctx, value):
    """How many low bits are zero; `value` is not 0."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typingctx, value):
    """How many high bits are zero; `value` is not 0."""

    def generate(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def multiply_wide(typingctx, left, right):
    """The 128-bit product of two uint64, as (low, high)."""
    result = types.UniTuple(types.uint64, 2)

    def generate(context, builder, signature, args):
        product = builder.mul(builder.zext(args[0], _I128), builder.zext(args[1], _I128))
        low = builder.trunc(product, _I64)
        high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
        return cgutils.pack_array(builder, [low, high])

    return result(types.uint64, types.uint64), generate


@intrinsic
def float_from_bits(typingctx, bits):
    """The double with these bits."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), generate
