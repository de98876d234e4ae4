"""The two decorators of the kernels, and a stamp that keeps Numba's cache honest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from numba import njit

logger = logging.getLogger("thalweg.formats")

P = ParamSpec("P")
R = TypeVar("R")


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel for kernels: compiled into those that call it."""
    return cast("Callable[P, R]", njit(nogil=True, error_model="numpy")(function))


def hot(function: Callable[P, R]) -> Callable[P, R]:
    """An `inner` that runs for every value: its code replaces the call, which Numba's own choice would not do."""
    return cast("Callable[P, R]", njit(nogil=True, error_model="numpy", forceinline=True)(function))


def entry(signature: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A kernel for Python, compiled at import of its module, or loaded from the cache on disk."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        dispatcher: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
        _stamp(dispatcher)
        if _is_cold(dispatcher):
            logger.info("compiling %s, only the first time: some seconds", function.__qualname__)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast("Callable[P, R]", dispatcher)

    return decorate


def cache_hits(dispatcher: Any) -> int:
    """How many signatures of an `entry` came from the cache on disk."""
    return sum(dispatcher.stats.cache_hits.values())


def _is_cold(dispatcher: Any) -> bool:
    """Whether the cache on disk has nothing of a kernel; where Numba's inside has changed, it is taken for warm."""
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    load = getattr(file, "_load_index", None)
    return load is not None and not load()


def _stamp(dispatcher: Any) -> None:
    """Makes the cache of one kernel depend on all kernel files.

    Numba looks at the file of the function alone, so that an edit of an inner kernel in another file would leave its
    callers stale. The stamp it compares is widened; where Numba's inside has changed, its own stamp stays.
    """
    file: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        stats = [path.stat() for path in sorted(Path(__file__).parent.glob("*.py"))]
        file._source_stamp = tuple((stat.st_mtime, stat.st_size) for stat in stats)
