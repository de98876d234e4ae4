"""Which partition a key goes to: the same as Kafka's Java client chooses, so that topics written by both agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConfigurationError
from thalweg.murmur2 import murmur2
from thalweg.records import EncodedRecords, Int32s

__all__ = ["murmur2", "murmur2_all", "partition_for", "partitions_for"]


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


def partitions_for(keys: EncodedRecords, partitions: int, nulls: Sequence[bool] | None = None) -> Int32s:
    """The partition of every key; -1 (the producer chooses) for those that `nulls` marks.

    Raises:
        ConfigurationError: fewer than one partition.
    """
    _check(partitions)
    chosen = ((murmur2_all(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int32)
    if nulls is not None:
        chosen[np.asarray(nulls, dtype=bool)] = -1
    return chosen


def _check(partitions: int) -> None:
    if partitions < 1:
        raise ConfigurationError(f"a topic has at least one partition, not {partitions}")
