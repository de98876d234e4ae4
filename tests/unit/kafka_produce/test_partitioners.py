"""The same hash and the same partition as Kafka's Java client."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.kafka._produce_api import api
from thalweg.kafka.partitioners import (
    ConsistentHash,
    PerKey,
    RoundRobin,
    Sticky,
    Vectorised,
    murmur2,
    murmur2_all,
    open_partitioner,
    partition_for,
    partitions_for,
)
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


def test_consistent_hash_moves_one_key_in_n_and_only_to_the_new_partition() -> None:
    keys = encoded([b"user-%d" % n for n in range(50_000)])
    ring = ConsistentHash()
    for n in (2, 5, 12, 40):
        before, after = (ring.partitions(keys, None, len(keys), count) for count in (n - 1, n))
        moved = before != after
        assert set(after[moved].tolist()) == {n - 1}
        assert 0.7 / n < moved.mean() < 1.3 / n
        by_modulo = partitions_for(keys, n - 1) != partitions_for(keys, n)
        assert by_modulo.mean() == pytest.approx((n - 1) / n if n > 2 else 0.5, abs=0.02)


def test_consistent_hash_shares_are_even() -> None:
    keys = encoded([b"%d" % n for n in range(100_000)])
    shares = np.bincount(ConsistentHash().partitions(keys, None, len(keys), 12)) / len(keys) * 12
    assert 0.75 < shares.min() <= shares.max() < 1.25


def test_sticky_and_round_robin_go_on_where_they_were() -> None:
    sticky, turns = Sticky(records=3), RoundRobin()
    assert [sticky.partitions(None, None, n, 2).tolist() for n in (2, 3, 4)] == [[0, 0], [0, 1, 1], [1, 0, 0, 0]]
    keys = encoded([b"21", b"", b"foobar", b""])
    nulls = np.array([False, True, False, True])
    chosen = sticky.partitions(keys, nulls, 4, 10).tolist()
    assert chosen == [partition_for(b"21", 10), 3, partition_for(b"foobar", 10), 3]
    assert [turns.partitions(None, None, n, 3).tolist() for n in (2, 3)] == [[0, 1], [2, 0, 1]]


def test_own_functions_see_keys_and_nulls() -> None:
    keys, nulls = encoded([b"ab", b"", b"abc"]), np.array([False, True, False])
    per_key = PerKey(lambda key, partitions: partitions - 1 if key is None else len(key))
    assert per_key.partitions(keys, nulls, 3, 9).tolist() == [2, 8, 3]
    vectorised = Vectorised(lambda keys, partitions: keys.bin.size())
    assert vectorised.partitions(keys, nulls, 3, 9).tolist() == [2, -1, 3]
    assert PerKey(lambda key, partitions: 4).partitions(None, None, 2, 9).tolist() == [4, 4]


def test_partitioners_by_name() -> None:
    assert open_partitioner("murmur2") is None
    assert isinstance(open_partitioner("sticky"), Sticky)
    for wrong in ("murmur3", 7):
        with pytest.raises(ConfigurationError, match="partitioner"):
            open_partitioner(wrong)  # type: ignore[arg-type]
    for make in (lambda: ConsistentHash(0), lambda: Sticky(0)):
        with pytest.raises(ConfigurationError, match="at least one"):
            make()
