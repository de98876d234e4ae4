"""Which partition a record goes to; by default what Kafka's Java client chooses, so that topics written by both agree.

A partitioner is any object with `partitions(keys, nulls, partitions)`: it sees whole columns of keys at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.murmur2 import murmur2
from thalweg.records import EncodedRecords, Int32s

__all__ = [
    "ConsistentHash",
    "Partitioner",
    "PerKey",
    "RoundRobin",
    "Sticky",
    "Vectorised",
    "murmur2",
    "murmur2_all",
    "partition_for",
    "partitions_for",
]

Nulls = npt.NDArray[np.bool_]


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of one key by Kafka's default partitioner: `(murmur2(key) & 0x7fffffff) % partitions`.

    >>> partition_for(b"user-1", 12)
    8
    """
    _check(partitions)
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2_all(keys: EncodedRecords) -> npt.NDArray[np.uint32]:
    """Kafka's murmur2 of every key, unsigned.

    >>> murmur2_all(EncodedRecords(np.frombuffer(b"21foobar", dtype=np.uint8), np.array([0, 2, 8]))).tolist()
    [3321034988, 3504634814]
    """
    from thalweg.kafka._produce_kernels import murmur2_rows

    out = np.empty(len(keys), dtype=np.uint32)
    murmur2_rows(np.ascontiguousarray(keys.data), np.ascontiguousarray(keys.offsets), out)
    return out


def partitions_for(keys: EncodedRecords, partitions: int, nulls: Sequence[bool] | Nulls | None = None) -> Int32s:
    """The partition of every key; -1 (the producer chooses) for those that `nulls` marks.

    Raises:
        ConfigurationError: fewer than one partition.
    """
    _check(partitions)
    chosen = ((murmur2_all(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
    if nulls is not None:
        chosen[np.asarray(nulls, dtype=bool)] = -1
    return chosen


@runtime_checkable
class Partitioner(Protocol):
    """Chooses partitions. Called by one thread at a time."""

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        """The partition of each of `rows` records, -1 where the producer may choose.

        Args:
            keys: None where no record has one.
            nulls: rows without a key.
            partitions: how many the topic has.
        """


class ConsistentHash:
    """A ring of virtual nodes: when a topic of n - 1 partitions gets another, about 1/n of the keys move, all to it.

    (By `murmur2 % n`, (n - 1)/n of them move.) Each partition owns `virtual_nodes` points of the ring, and a key
    belongs to the next point at or after its murmur2; the more points, the more even the shares: with 256, each
    partition's share is within about a fifth of the mean.
    """

    def __init__(self, virtual_nodes: int = 256) -> None:
        if virtual_nodes < 1:
            raise ConfigurationError(f"virtual_nodes is {virtual_nodes}; at least one is needed")
        self._virtual_nodes = virtual_nodes
        self._rings: dict[int, tuple[npt.NDArray[np.uint32], Int32s]] = {}

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        if keys is None:
            return np.full(rows, -1, dtype=np.int32)
        points, owners = self._ring(partitions)
        at = np.searchsorted(points, murmur2_all(keys))
        at[at == len(points)] = 0
        chosen = owners[at]
        if nulls is not None:
            chosen[nulls] = -1
        return chosen

    def _ring(self, partitions: int) -> tuple[npt.NDArray[np.uint32], Int32s]:
        _check(partitions)
        if partitions not in self._rings:
            labels = [(p, f"{p}/{node}".encode()) for p in range(partitions) for node in range(self._virtual_nodes)]
            points = np.array([_point(label) for _, label in labels], dtype=np.uint32)
            owners = np.array([p for p, _ in labels], dtype=np.int32)
            order = np.argsort(points, kind="stable")  # of equal points the lower partition's comes first, whatever n
            self._rings[partitions] = points[order], owners[order]
        return self._rings[partitions]


class RoundRobin:
    """One partition after the other, whatever the key."""

    def __init__(self) -> None:
        self._next = 0
        self._lock = Lock()

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        _check(partitions)
        with self._lock:
            first, self._next = self._next, self._next + rows
        return ((first + np.arange(rows)) % partitions).astype(np.int32)


class Sticky:
    """Keys by murmur2; records without a key fill one partition's batch, then go on with the next: fewer requests.

    Args:
        records: how many stay together.
    """

    def __init__(self, records: int = 10_000) -> None:
        if records < 1:
            raise ConfigurationError(f"records is {records}; at least one is needed")
        self._records = records
        self._next = 0
        self._lock = Lock()

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        _check(partitions)
        keyless = np.ones(rows, dtype=bool) if keys is None else nulls
        chosen = np.empty(rows, dtype=np.int32) if keys is None else partitions_for(keys, partitions)
        if keyless is not None:
            count = int(keyless.sum())
            with self._lock:
                first, self._next = self._next, self._next + count
            chosen[keyless] = (first + np.arange(count)) // self._records % partitions
        return chosen


class Vectorised:
    """A function of a whole column: `choose(keys, partitions)` gets a Binary `polars.Series` and gives integers.

    >>> by_length = Vectorised(lambda keys, partitions: keys.bin.size() % partitions)
    """

    def __init__(self, choose: Callable[[pl.Series, int], pl.Series | npt.ArrayLike]) -> None:
        self._choose = choose

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        found = self._choose(_series(keys, nulls, rows), partitions)
        column = found if isinstance(found, pl.Series) else pl.Series(np.asarray(found))
        return column.cast(pl.Int32).fill_null(-1).to_numpy()


class PerKey:
    """A function of one key: `choose(key, partitions)` gets bytes or None and gives an integer."""

    def __init__(self, choose: Callable[[bytes | None, int], int]) -> None:
        self._choose = choose

    def partitions(self, keys: EncodedRecords | None, nulls: Nulls | None, rows: int, partitions: int) -> Int32s:
        column = _series(keys, nulls, rows).to_list()
        known: dict[bytes | None, int] = {}
        for key in column:
            if key not in known:
                known[key] = self._choose(key, partitions)
        return np.array([known[key] for key in column], dtype=np.int32)


_BY_NAME: dict[str, Callable[[], Partitioner | None]] = {
    "murmur2": lambda: None,
    "consistent_hash": ConsistentHash,
    "round_robin": RoundRobin,
    "sticky": Sticky,
}


def open_partitioner(given: str | Partitioner | Callable[[bytes | None, int], int]) -> Partitioner | None:
    """The partitioner of that name, or of a function of (key, partitions); None: librdkafka's own murmur2.

    Raises:
        ConfigurationError: no such partitioner.
    """
    if isinstance(given, str):
        if given not in _BY_NAME:
            raise ConfigurationError(f"partitioner {given!r}: use one of {', '.join(_BY_NAME)}, or your own")
        return _BY_NAME[given]()
    if isinstance(given, Partitioner):
        return given
    if not callable(given):
        raise ConfigurationError(
            f"partitioner {given!r}: give a name, a Partitioner or a function of (key, partitions)"
        )
    return PerKey(given)


def checked(chosen: Int32s, rows: int, partitions: int) -> Int32s:
    """What a partitioner chose, made sure of: librdkafka would only say "unknown partition".

    Raises:
        ConfigurationError: not one integer per record, or one beyond the topic's partitions.
    """
    if len(chosen) != rows:
        raise ConfigurationError(f"the partitioner chose {len(chosen)} partitions for {rows} records")
    wrong = (chosen < -1) | (chosen >= partitions)
    if wrong.any():
        raise ConfigurationError(
            f"the partitioner chose partition {int(chosen[wrong][0])} of a topic that has {partitions}"
        )
    return np.ascontiguousarray(chosen, dtype=np.int32)


def _series(keys: EncodedRecords | None, nulls: Nulls | None, rows: int) -> pl.Series:
    if keys is None:
        return pl.Series([None] * rows, dtype=pl.Binary)
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(keys.offsets)), pa.py_buffer(np.ascontiguousarray(keys.data))]
    series = pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.large_binary(), len(keys), buffers)))
    return series if nulls is None else pl.select(pl.when(~pl.Series(nulls)).then(series)).to_series()


def _point(label: bytes) -> int:
    return int.from_bytes(blake2b(label, digest_size=4).digest(), "little")


def _check(partitions: int) -> None:
    if partitions < 1:
        raise ConfigurationError(f"a topic has at least one partition, not {partitions}")
