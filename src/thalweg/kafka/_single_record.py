"""One record to librdkafka: no arrays, a few microseconds."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import Structure, c_char_p, c_int64, c_void_p

from thalweg.kafka import _produce_api as native
from thalweg.kafka._produce_api import api, take_error

_RKT, _PARTITION, _VALUE, _KEY, _OPAQUE, _MSGFLAGS, _TIMESTAMP, _HEADER = 2, 3, 4, 5, 6, 7, 8, 9


class _Field(Structure):
    """rd_kafka_vu_t"""

    _fields_ = (("kind", c_int64), ("first", c_int64), ("second", c_int64), ("third", c_int64), ("_rest", c_int64 * 5))


def send_one(
    handle: int,
    topic: int,
    value: bytes | None,
    key: bytes | None,
    partition: int,
    opaque: int,
    timestamp: int | None,
    headers: Mapping[str, bytes | None] | None,
) -> int:
    """Hands one record over, which librdkafka copies; returns 0 or the error (the queue is full, most often)."""
    if timestamp is None and not headers:
        if api().rd_kafka_produce(
            *(topic, partition, native.F_COPY, value, len(value or b""), key, len(key or b""), opaque)
        ):
            return int(api().rd_kafka_last_error())
        return 0
    fields = [
        (_RKT, topic, 0, 0),
        (_MSGFLAGS, native.F_COPY, 0, 0),
        (_PARTITION, partition, 0, 0),
        (_VALUE, _address(value), len(value or b""), 0),
        (_KEY, _address(key), len(key or b""), 0),
        (_OPAQUE, opaque, 0, 0),
    ]
    if timestamp is not None:
        fields.append((_TIMESTAMP, timestamp, 0, 0))
    names = []  # alive until the call is over
    for name, content in (headers or {}).items():
        names.append(ctypes.create_string_buffer(name.encode()))
        fields.append((_HEADER, ctypes.addressof(names[-1]), _address(content), len(content or b"")))
    array = (_Field * len(fields))(*(_Field(*field) for field in fields))
    problem = take_error(api().rd_kafka_produceva(handle, array, len(fields)))
    return 0 if problem is None else problem.code


def _address(data: bytes | None) -> int:
    return 0 if data is None else ctypes.cast(c_char_p(data), c_void_p).value or 0
