"""The same hash and the same partition as Kafka's Java client."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.kafka._produce_api import api
from thalweg.kafka.partitioners import murmur2, murmur2_all, partition_for, partitions_for
from thalweg.records import EncodedRecords

# From Kafka's own UtilsTest.testMurmur2 (signed there).
PUBLISHED = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def encoded(rows: list[bytes]) -> EncodedRecords:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return EncodedRecords(np.frombuffer(b"".join(rows), dtype=np.uint8), offsets)


def test_published_vectors() -> None:
    assert {key: int(np.int32(np.uint32(murmur2(key)))) for key in PUBLISHED} == PUBLISHED
    assert murmur2_all(encoded(list(PUBLISHED))).astype(np.int32).tolist() == list(PUBLISHED.values())


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 1000))
def test_columns_equal_librdkafkas_own_partitioner(keys: list[bytes], partitions: int) -> None:
    partitioner = api().rd_kafka_msg_partitioner_murmur2
    partitioner.restype = ctypes.c_int32
    partitioner.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, *[ctypes.c_void_p] * 2]
    expected = [partitioner(None, key, len(key), partitions, None, None) for key in keys]
    assert partitions_for(encoded(keys), partitions).tolist() == expected
    assert [partition_for(key, partitions) for key in keys] == expected


def test_rows_without_a_key_are_the_producers_choice() -> None:
    assert partitions_for(encoded([b"21", b""]), 10, [False, True]).tolist() == [partition_for(b"21", 10), -1]


def test_a_topic_has_partitions() -> None:
    with pytest.raises(ConfigurationError):
        partition_for(b"x", 0)
