"""Numba kernels of the producer: rows to librdkafka messages, and delivery reports to counters, without the GIL.

librdkafka's functions are called by address; addresses come as arguments, so that the compiled kernels can be cached.
Layouts (64-bit, little endian, stable since librdkafka 1.0), in words of 8 bytes:

rd_kafka_message_t   0 err (int32)   1 rkt   2 partition (int32)   3 payload   4 len   5 key   6 key_len   7 offset
                     8 _private (our opaque)
rd_kafka_vu_t        0 vtype (int32)   1..8 union
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from thalweg._murmur2_kernel import murmur2

MESSAGE_WORDS = 9
VU_WORDS = 9
FUTURE_BIT = 1 << 62
"""Set in the opaque of a message whose delivery somebody waits for one by one."""
RING = 64
"""How many generations may be in flight at once."""
LANES = 4096
"""How many (topic, partition) pairs are sent to with an eye on what is under way to them; number 0 is all others."""
REPORT_WORDS = 6
"""A delivery report: opaque, error, partition, offset, timestamp, topic handle."""

_RECORD_BYTES = 20
"""What a record of a request has beside key, value and headers, in bytes, at most."""
_V_RKT, _V_PARTITION, _V_VALUE, _V_KEY, _V_OPAQUE, _V_MSGFLAGS, _V_TIMESTAMP, _V_HEADER = 2, 3, 4, 5, 6, 7, 8, 9
_F_COPY = 2
_EVENT_DR = 1
_INVALID_ARGUMENT = -186


@intrinsic  # type: ignore[untyped-decorator]
def _call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Calls a C function of int64 arguments that returns 8 bytes (a pointer or size), by its address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        given = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(word, [word] * len(given))
        return builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)

    return types.int64(types.int64, arguments), generate


call_function = _call


@intrinsic  # type: ignore[untyped-decorator]
def _words(typingctx: Any, address: Any) -> Any:
    """An address as a pointer to int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), generate


@njit("int64(int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _int32(word: Any) -> Any:
    """The low half of a word, signed; also what a C function returning int leaves in its register."""
    return np.int64(np.int32(word & 0xFFFFFFFF))


@njit(  # type: ignore[untyped-decorator]
    "void(Array(uint8, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), uint32[::1])",
    nogil=True,
    cache=True,
)
def murmur2_rows(data: Any, offsets: Any, out: Any) -> None:
    """murmur2 of every row of (data, offsets)."""
    for row in range(min(len(out), len(offsets) - 1)):
        out[row] = murmur2(data, offsets[row], offsets[row + 1])


@njit(  # type: ignore[untyped-decorator]
    "int64(int64, Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64,"
    "Array(int64, 1, 'C', readonly=True), Array(boolean, 1, 'C', readonly=True), Array(boolean, 1, 'C', readonly=True),"
    "Array(int32, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True),"
    "int64[::1], int64[::1], int64, int64[:, ::1], int64[::1])",
    nogil=True,
    cache=True,
)
def fill_messages(
    value_base: int,
    value_offsets: Any,
    value_sizes: Any,
    key_base: int,
    key_offsets: Any,
    null_keys: Any,
    null_values: Any,
    partitions: Any,
    extra: Any,
    span: Any,
    refused: Any,
    opaque: int,
    messages: Any,
    rows: Any,
) -> int:
    """Fills librdkafka messages with the addresses of rows; returns how many, -1 for offsets outside the data.

    Args:
        value_sizes: bytes of each value; empty where each ends at the next one's offset.
        null_keys, null_values, partitions: empty where no row has one.
        extra: bytes of each row's headers, which count towards the limit; empty for none.
        span: [0] first row (moved on), [1] end row, [2] largest record, [3] number of refused rows (moved on),
            [4], [5] bytes of the values and of the keys, [6] the partition of rows that name none, [7] bytes of a
            request after which the next call goes on (the first message is always taken), [8] (out) bytes of keys and
            values taken.
        refused: gets the rows that are larger than the largest record allowed; they are left out.
        rows: gets the row of each message.
    """
    count = 0
    taken = 0
    row = span[0]
    while row < span[1] and count < len(messages):
        start = value_offsets[row]
        size = value_sizes[row] if len(value_sizes) > 0 else value_offsets[row + 1] - start
        has_key = len(key_offsets) > 0 and not (len(null_keys) > 0 and null_keys[row])
        key_start = key_offsets[row] if has_key else 0
        key_size = key_offsets[row + 1] - key_start if has_key else 0
        if start < 0 or size < 0 or start + size > span[4] or key_start < 0 or key_size < 0:
            return -1
        if key_start + key_size > span[5]:
            return -1
        more = extra[row] if len(extra) > 0 else 0
        if size + key_size + more > span[2]:
            refused[span[3]] = row
            span[3] += 1
            row += 1
            continue
        if count > 0 and taken + size + key_size + (count + 1) * _RECORD_BYTES > span[7]:
            break
        taken += size + key_size
        null = len(null_values) > 0 and null_values[row]
        message = messages[count]
        message[0] = 0
        message[1] = 0
        message[2] = partitions[row] if len(partitions) > 0 else span[6]
        message[3] = 0 if null else value_base + start
        message[4] = 0 if null else size
        message[5] = key_base + key_start if has_key else 0
        message[6] = key_size
        message[7] = 0
        message[8] = opaque
        rows[count] = row
        count += 1
        row += 1
    span[0] = row
    span[8] = taken
    return count


@njit("int64(int64[:, ::1], int64, int64[::1], int64[:, ::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def failed_messages(messages: Any, count: int, rows: Any, out: Any) -> int:
    """Writes (row, error) of every message that was not taken; returns how many there are."""
    n = 0
    for i in range(count):
        error = _int32(messages[i, 0])
        if error != 0:
            if n < len(out):
                out[n, 0] = rows[i]
                out[n, 1] = error
            n += 1
    return n


@njit(  # type: ignore[untyped-decorator]
    "int64(int64[::1], int64[:, ::1], int64[::1], int64, Array(int64, 1, 'C', readonly=True),"
    "Array(int64, 1, 'C', readonly=True), Array(int64, 2, 'C', readonly=True), int64[:, ::1], int64[::1])",
    nogil=True,
    cache=True,
)
def produce_each(
    calls: Any,
    messages: Any,
    rows: Any,
    count: int,
    timestamps: Any,
    header_offsets: Any,
    headers: Any,
    vus: Any,
    failure: Any,
) -> int:
    """Sends messages one call each, which `rd_kafka_produce_batch` can't: with timestamps or headers.

    Args:
        calls: addresses of rd_kafka_produceva, rd_kafka_error_code, rd_kafka_error_destroy; then rk, rkt.
        header_offsets, headers: row i has the headers `headers[header_offsets[i]:header_offsets[i + 1]]`, each
            (address of its name, address of its value, length); empty where no row has any.
        failure: gets the first error.

    Returns:
        how many messages were taken: fewer than `count` when one failed.
    """
    for i in range(count):
        message = messages[i]
        vus[0, 0] = _V_RKT
        vus[0, 1] = calls[4]
        vus[1, 0] = _V_MSGFLAGS
        vus[1, 1] = _F_COPY
        vus[2, 0] = _V_PARTITION
        vus[2, 1] = message[2]
        vus[3, 0] = _V_VALUE
        vus[3, 1] = message[3]
        vus[3, 2] = message[4]
        vus[4, 0] = _V_KEY
        vus[4, 1] = message[5]
        vus[4, 2] = message[6]
        vus[5, 0] = _V_OPAQUE
        vus[5, 1] = message[8]
        n = 6
        row = rows[i]
        if len(timestamps) > 0 and timestamps[row] > 0:
            vus[n, 0] = _V_TIMESTAMP
            vus[n, 1] = timestamps[row]
            n += 1
        if len(header_offsets) > 0:
            for h in range(header_offsets[row], header_offsets[row + 1]):
                if n == len(vus) or h >= len(headers):
                    failure[0] = _INVALID_ARGUMENT
                    return i
                vus[n, 0] = _V_HEADER
                vus[n, 1] = headers[h, 0]
                vus[n, 2] = headers[h, 1]
                vus[n, 3] = headers[h, 2]
                n += 1
        error = _call(calls[0], (calls[3], vus.ctypes.data, n))
        if error != 0:
            failure[0] = _int32(_call(calls[1], (error,)))
            _call(calls[2], (error,))
            return i
    return count


@njit(  # type: ignore[untyped-decorator]
    "int64(int64[::1], int64[::1], int64, int64[::1], int64[::1], int64[::1], int64[::1], int64[:, ::1], int64[::1])",
    nogil=True,
    cache=True,
)
def drain(
    calls: Any,
    open_event: Any,
    timeout_ms: int,
    sent: Any,
    done: Any,
    lanes: Any,
    scratch: Any,
    reports: Any,
    target: Any,
) -> int:
    """Takes delivery reports off the queue until the target generation is delivered, or `timeout_ms` is over.

    Args:
        calls: addresses of rd_kafka_queue_poll, rd_kafka_event_type, rd_kafka_event_message_array,
            rd_kafka_event_destroy, rd_kafka_message_timestamp; then the queue.
        open_event: [0] an event whose messages did not all fit into `reports` last time; [1] (out) an event of
            another kind, which the caller must handle and destroy.
        sent, done: messages per generation, by generation % RING; `done` is counted up here.
        lanes: bytes of keys and values of the messages that came back, by opaque // RING; counted up here.
        scratch: room for message pointers.
        reports: gets the failures, and every message with FUTURE_BIT.
        target: [0] generation to wait for, -1 to stop after what is there now; [1] (out) failures counted.

    Returns:
        how many reports were written. The caller calls again if it is as many as fit.
    """
    written = 0
    wait = timeout_ms
    while True:
        event = open_event[0]
        open_event[0] = 0
        if event == 0:
            slot = target[0] % RING
            if target[0] >= 0 and sent[slot] == done[slot]:
                return written
            event = _call(calls[0], (calls[5], wait))
            if event == 0:
                return written
        if _int32(_call(calls[1], (event,))) != _EVENT_DR:
            open_event[1] = event
            return written
        while True:
            room = min(len(scratch), len(reports) - written)
            if room == 0:
                open_event[0] = event
                return written
            n = _call(calls[2], (event, scratch.ctypes.data, room))
            if n == 0:
                break
            for i in range(n):
                message = carray(_words(scratch[i]), MESSAGE_WORDS)
                opaque = message[8]
                error = _int32(message[0])
                failed = error != 0
                if opaque & FUTURE_BIT == 0:
                    done[opaque % RING] += 1
                    lane = opaque // RING
                    if 0 < lane < len(lanes):
                        lanes[lane] += message[4] + message[6]
                if failed:
                    target[1] += 1
                if failed or opaque & FUTURE_BIT != 0:
                    reports[written, 0] = opaque
                    reports[written, 1] = error
                    reports[written, 2] = _int32(message[2])
                    reports[written, 3] = message[7]
                    reports[written, 4] = _call(calls[4], (scratch[i], 0))
                    reports[written, 5] = message[1]
                    written += 1
        _call(calls[3], (event,))
        if written:
            return written
        if target[0] < 0:
            wait = 0
