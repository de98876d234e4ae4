"""Finds the librdkafka that `confluent-kafka` brings, for use through `ctypes`."""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator, Mapping
from ctypes import CDLL
from functools import lru_cache
from pathlib import Path
from typing import Any

from thalweg.errors import ThalwegError

OLDEST, NEWEST = (2, 0), (3, 0)
"""Versions whose layouts and calls are known: from OLDEST, below NEWEST."""

Functions = Mapping[str, tuple[Any, tuple[Any, ...]]]
"""Function name to (result type, argument types)."""


class LibraryUnusable(ThalwegError):
    """librdkafka was not found, or its version or this machine's memory layout is not known."""


@lru_cache(maxsize=1)
def library_path() -> Path:
    """The library that `confluent_kafka` itself runs on.

    Raises:
        LibraryUnusable: says why; the plain consumer serves then.
    """
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        raise LibraryUnusable("the columnar Kafka path needs a 64-bit little-endian machine")
    for path in _candidates():
        try:
            version = version_of(CDLL(str(path)))
        except (OSError, AttributeError):
            continue
        if not OLDEST <= version[:2] < NEWEST:
            found = ".".join(map(str, version))
            raise LibraryUnusable(f"librdkafka {found} is not known; install a confluent-kafka with librdkafka 2.x")
        return path
    raise LibraryUnusable("no librdkafka in or beside the confluent_kafka package; reinstall confluent-kafka's wheel")


def load(functions: Functions) -> CDLL:
    """The library with these functions typed, on a handle of its own: its types don't meddle with other users'."""
    library = CDLL(str(library_path()))
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def address_of(library: CDLL, name: str) -> int:
    """Where a function lies, for kernels that call it."""
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def version_of(library: CDLL) -> tuple[int, int, int]:
    """Major, minor and revision, from 0xMMmmrrxx."""
    number = library.rd_kafka_version()
    return (number >> 24) & 0xFF, (number >> 16) & 0xFF, (number >> 8) & 0xFF


def _candidates() -> Iterator[Path]:
    """Where the wheels keep it on Linux, Windows (both `.libs`) and macOS; then what the extension is linked with."""
    import confluent_kafka
    from confluent_kafka import cimpl

    package = Path(confluent_kafka.__file__).parent
    yield from sorted(package.parent.glob("confluent_kafka.libs/librdkafka*"))
    yield from sorted(package.glob(".dylibs/librdkafka*"))
    if sys.platform != "win32":  # a symbol is looked up in the extension and in all that it depends on
        yield Path(cimpl.__file__)
