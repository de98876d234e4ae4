"""Records for the tests of the formats: in plain memory, and at the very end of readable memory."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from thalweg.records import RawRecords

Payloads = Sequence[bytes | None]


def raw_records(payloads: Payloads) -> RawRecords:
    """The payloads one behind the other, as a broker would hand them over."""
    data = np.frombuffer(b"".join(p or b"" for p in payloads) + b"\0", np.uint8).copy()
    lengths = np.array([-1 if p is None else len(p) for p in payloads], np.int64)
    taken = lengths.clip(min=0)
    return at_addresses(data.ctypes.data + np.cumsum(taken) - taken, lengths, data)


def at_addresses(addresses: np.ndarray, lengths: np.ndarray, owner: object) -> RawRecords:
    n = len(lengths)
    nothing = np.full(n, -1, np.int64)
    return RawRecords(
        "topic", addresses.astype(np.uint64), lengths, np.zeros(n, np.uint64), nothing,
        np.zeros(n, np.int32), np.arange(n, dtype=np.int64), nothing, owner,
    )  # fmt: skip


class GuardedMemory:
    """Pages of memory behind which nothing can be read: a read beyond the last byte ends the process."""

    def __init__(self, pages: int = 16) -> None:
        size = mmap.PAGESIZE
        self._map = mmap.mmap(-1, (pages + 1) * size)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._end = start + pages * size
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(self._end), ctypes.c_size_t(size), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        self.capacity = pages * size

    def records(self, payload: bytes) -> RawRecords:
        """One record whose last byte is the last one that can be read."""
        ctypes.memmove(self._end - len(payload), payload, len(payload))
        return at_addresses(np.array([self._end - len(payload)]), np.array([len(payload)]), self)


@pytest.fixture(scope="session")
def records() -> Callable[[Payloads], RawRecords]:
    return raw_records


@pytest.fixture(scope="session")
def guarded() -> GuardedMemory:
    return GuardedMemory()
