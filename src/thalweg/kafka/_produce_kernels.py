"""Numba kernels of the producer: messages to librdkafka, and delivery reports to counters, without the GIL.

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

RECORD_BYTES = 20
"""What a record of a request has beside key, value and headers, in bytes, at most."""
LEAST_WEIGHT = 100
"""Bytes that the smallest record counts of a request: a request has at most 10,000 records, and 1 MB."""
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


@njit("int64(int64, int64, int64[:, ::1], int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def produce_runs(function: int, topic: int, messages: Any, count: int) -> int:
    """Sends messages by `rd_kafka_produce_batch`, each run of one partition in one call; returns how many were taken.

    (One call for many partitions would look each of them up and lose count of messages for one that does not exist.)

    Args:
        function: the address of rd_kafka_produce_batch.
        topic: an rd_kafka_topic_t. Messages for partition -1 go where librdkafka chooses.
    """
    taken = 0
    first = 0
    while first < count:
        partition = messages[first, 2]
        end = first + 1
        while end < count and messages[end, 2] == partition:
            end += 1
        at = messages.ctypes.data + first * MESSAGE_WORDS * 8
        taken += _int32(_call(function, (topic, partition, _F_COPY, at, end - first)))
        first = end
    return taken


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
        lanes: the weight of the messages that came back, by opaque // RING; counted up here.
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
                        lanes[lane] += max(message[4] + message[6] + RECORD_BYTES, LEAST_WEIGHT)
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
