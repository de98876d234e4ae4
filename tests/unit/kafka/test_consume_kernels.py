"""The consumer's kernels on messages laid out by hand, calling functions by address as they do with librdkafka's."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from thalweg.kafka import _consume_kernels as kernels
from thalweg.kafka._messages import _Message
from thalweg.kafka._records import some, without
from thalweg.kafka.arrow import to_arrow
from thalweg.records import RawRecords

EOF = -191
Spec = tuple[int, int, bytes | None, bytes | None, int]
"""error, partition, value, key, offset"""


def lay_out(*specs: Spec) -> tuple[np.ndarray[Any, Any], list[object]]:
    """Addresses of messages with these fields, and what keeps them alive."""
    alive: list[object] = []
    addresses = []
    for error, partition, value, key, offset in specs:
        texts = [
            None if text is None else ctypes.create_string_buffer(text, max(1, len(text))) for text in (value, key)
        ]
        pointers = [None if text is None else ctypes.addressof(text) for text in texts]
        message = _Message(
            error, 77, partition, pointers[0], len(value or b""), pointers[1], len(key or b""), offset, None
        )
        alive += [message, *texts]
        addresses.append(ctypes.addressof(message))
    return np.array(addresses, dtype=np.int64), alive


@ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
def timestamp_of(message: int, kind: int | None) -> int:
    return 1000 + _Message.from_address(message).offset


def gather(addresses: np.ndarray[Any, Any]) -> tuple[RawRecords, list[int], list[int]]:
    n = len(addresses)
    words = [np.empty(n, kind) for kind in (np.int64, np.uint64, np.int64, np.uint64, np.int64)]
    topics, values, value_lengths, keys, key_lengths = words
    partition, offset, timestamp, errors = np.empty(n, np.int32), *(np.empty(n, np.int64) for _ in range(3))
    function = ctypes.cast(timestamp_of, ctypes.c_void_p).value
    failed = kernels.gather(
        addresses, n, function, topics, values, value_lengths, keys, key_lengths, partition, offset, timestamp, errors
    )
    columns = (values, value_lengths, keys, key_lengths, partition, offset, timestamp)
    return RawRecords("t", *(column[: n - failed] for column in columns)), errors[:failed].tolist(), topics.tolist()


def test_messages_become_columns_and_errors_are_set_apart() -> None:
    addresses, alive = lay_out(
        (0, 3, b"value", b"key", 10),
        (EOF, 1, b"the text of the error", None, 5),
        (0, 0, None, b"", 2**40),
        (0, 2**31 - 1, b"", None, 0),
    )
    raw, errors, topics = gather(addresses)
    assert errors == [1]
    assert [(raw.value(i), raw.key(i)) for i in range(len(raw))] == [(b"value", b"key"), (None, b""), (b"", None)]
    assert raw.partition.tolist() == [3, 0, 2**31 - 1]
    assert raw.offset.tolist() == [10, 2**40, 0]
    assert raw.timestamp.tolist() == [1010, 1000 + 2**40, 1000]
    assert topics[:3] == [77, 77, 77]
    assert alive


def test_arrow_keeps_nulls_and_empties_apart() -> None:
    addresses, alive = lay_out(
        *((0, 0, value, None, i) for i, value in enumerate([b"ab", None, b"", "ü".encode()] * 5))
    )
    frame = pl.DataFrame(pl.from_arrow(to_arrow(gather(addresses)[0])))
    assert frame["value"].to_list() == [b"ab", None, b"", "ü".encode()] * 5
    assert frame["key"].null_count() == 20
    assert alive
    empty = to_arrow(some(gather(addresses)[0], np.zeros(20, dtype=bool), None))
    assert empty.num_rows == 0


def test_every_message_is_destroyed_once() -> None:
    destroyed: list[int] = []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(destroyed.append)
    addresses = np.arange(1, 100, dtype=np.int64)
    kernels.destroy(addresses, ctypes.cast(function, ctypes.c_void_p).value)
    assert destroyed == addresses.tolist()


def test_last_rows_refuses_what_does_not_fit() -> None:
    out = np.empty(3, dtype=np.int64)
    assert kernels.last_rows(np.array([2, 0, 2, 0], dtype=np.int32), out)
    assert out.tolist() == [3, -1, 2]
    assert not kernels.last_rows(np.array([0, 3], dtype=np.int32), out)
    assert not kernels.last_rows(np.array([-1], dtype=np.int32), out)


def test_without_releases_what_is_left_empty() -> None:
    class Owner:
        released = 0

        def release(self) -> None:
            self.released += 1

    owners = [Owner(), Owner()]
    addresses, _alive = lay_out((0, 0, b"a", None, 0), (0, 1, b"b", None, 0))
    batches = [gather(addresses)[0], gather(addresses[:1])[0]]
    for raw, owner in zip(batches, owners, strict=True):
        raw.owner = owner
    (left,) = without(batches, [("t", 0), ("other", 1)])
    assert left.value(0) == b"b"
    assert [owner.released for owner in owners] == [0, 1]
    left.release()
    assert owners[0].released == 1


@pytest.mark.timeout(240)
def test_the_kernels_come_from_the_cache(tmp_path: Path) -> None:
    code = (
        "from thalweg.kafka._consume_kernels import KERNELS; "
        "stats = [k.stats for k in KERNELS]; "
        "print(*(sum(s.cache_hits.values()) for s in stats), *(sum(s.cache_misses.values()) for s in stats))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    n = len(kernels.KERNELS)
    assert [list(map(int, run.split())) for run in runs] == [[0] * n + [1] * n, [1] * n + [0] * n]


def test_importing_the_consumer_module_does_not_load_numba() -> None:
    code = "import sys, thalweg.kafka.consumer, thalweg.connectors.kafka_source; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
