"""Numba kernels that read the headers of librdkafka's messages. Function addresses come as arguments, to be cacheable.

`calls`: rd_kafka_message_headers(message, headers_out), rd_kafka_header_cnt(headers),
rd_kafka_header_get_all(headers, index, name_out, value_out, size_out).
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def"
from __future__ import annotations

import numpy as np
from numba import njit

from thalweg.formats.kernels.memory import load_u8
from thalweg.kafka._produce_kernels import call_function


@njit("int64(int64)", nogil=True, cache=True)
def _length_of_text(address):
    """strlen: librdkafka ends every name with a zero."""
    length = 0
    while load_u8(address + length) != 0:
        length += 1
    return length


@njit("int64(int64[::1], int64[::1], int64[::1])", nogil=True, cache=True)
def count_headers(calls, messages, offsets):
    """offsets[i + 1] = headers of the first i + 1 messages; returns how many there are in all."""
    out = np.zeros(1, dtype=np.int64)
    offsets[0] = 0
    for i in range(min(len(messages), len(offsets) - 1)):
        count = 0
        if call_function(calls[0], (messages[i], out.ctypes.data)) & 0xFFFFFFFF == 0:
            count = call_function(calls[1], (out[0],))
        offsets[i + 1] = offsets[i] + count
    return offsets[len(messages)]


@njit("void(int64[::1], int64[::1], int64[::1], int64[:, ::1])", nogil=True, cache=True)
def gather_headers(calls, messages, offsets, places):
    """Writes, for each header, the address and length of its name and of its value; -1 for a value that is null."""
    out = np.zeros(4, dtype=np.int64)
    base = out.ctypes.data
    for i in range(min(len(messages), len(offsets) - 1)):
        if offsets[i + 1] == offsets[i]:
            continue
        call_function(calls[0], (messages[i], base))
        for index in range(offsets[i + 1] - offsets[i]):
            at = offsets[i] + index
            call_function(calls[2], (out[0], index, base + 8, base + 16, base + 24))
            places[0, at] = out[1]
            places[1, at] = _length_of_text(out[1])
            places[2, at] = out[2]
            places[3, at] = out[3] if out[2] != 0 else -1
