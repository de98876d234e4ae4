"""Numba kernels of the consumer: librdkafka's messages to columns, without the GIL and without an object per event.

librdkafka's functions are called by address; addresses come as arguments, so that the compiled kernels can be cached.
Layout of rd_kafka_message_t (64-bit, little endian, stable since librdkafka 1.0), in words of 8 bytes:

    0 err (int32)   1 rkt   2 partition (int32)   3 payload   4 len   5 key   6 key_len   7 offset   8 _private
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

_WORD = ir.IntType(64)


@intrinsic
def _load(typingctx, address):
    """The 8 bytes at an address, as int64."""

    def generate(context, builder, signature, args):
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()), align=1)

    return types.int64(types.int64), generate


@intrinsic
def _call1(typingctx, function, first):
    """Calls `void f(void *)` by its address."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_WORD])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _call2(typingctx, function, first, second):
    """Calls `int64_t f(const void *, void *)` by its address."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(_WORD, [_WORD, _WORD])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1], args[2]])

    return types.int64(types.int64, types.int64, types.int64), generate


@njit(
    "int64(int64[::1], int64, int64, int64[::1], uint64[::1], int64[::1], uint64[::1], int64[::1], int32[::1],"
    "int64[::1], int64[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def gather(
    messages,
    count,
    timestamp_function,
    topics,
    value_address,
    value_length,
    key_address,
    key_length,
    partition,
    offset,
    timestamp,
    error_rows,
):
    """Reads `count` messages into columns, those with an error left out; returns how many errors there were.

    Row i of the columns is the i-th message without an error. `error_rows` gets, for each error, its index in
    `messages`. A null payload or key has length -1.
    """
    row = 0
    errors = 0
    for i in range(min(count, len(messages))):
        message = messages[i]
        if np.int32(_load(message) & 0xFFFFFFFF) != 0:
            error_rows[errors] = i
            errors += 1
            continue
        topics[row] = _load(message + 8)
        partition[row] = np.int32(_load(message + 16) & 0xFFFFFFFF)
        value = _load(message + 24)
        key = _load(message + 40)
        value_address[row] = np.uint64(value)
        value_length[row] = _load(message + 32) if value != 0 else -1
        key_address[row] = np.uint64(key)
        key_length[row] = _load(message + 48) if key != 0 else -1
        offset[row] = _load(message + 56)
        timestamp[row] = _call2(timestamp_function, message, 0)
        row += 1
    return errors


@njit("void(int64[::1], int64)", nogil=True, cache=True)
def destroy(messages, destroy_function):
    """Gives every message back to librdkafka."""
    for i in range(len(messages)):
        _call1(destroy_function, messages[i])


@njit("boolean(int32[::1], int64[::1])", nogil=True, cache=True)
def last_rows(partition, out):
    """out[p] = the last row of partition p, -1 where it has none; False: `out` is too short for a partition."""
    out[:] = -1
    for row in range(len(partition)):
        p = partition[row]
        if p < 0 or p >= len(out):
            return False
        out[p] = row
    return True


KERNELS: tuple[Any, ...] = (gather, destroy, last_rows)
