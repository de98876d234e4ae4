"""Where state frames are held: in memory, and, beyond a limit, in a colder store that a state backend brings.

State structures (`FrameLog`, `RowStore`, `KeyedStore`) hold *cells*: a cell is one immutable frame, in memory or not.
The pool of a job keeps the sum of what is in memory under its limit by writing the cells that were used least recently
to its cold store, as Arrow IPC, once: a frame never changes. Working state only: what is durable is committed with the
job's outputs, and after a restart the cold store starts empty.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol
from weakref import ref

import polars as pl

from thalweg.errors import StateError

SMALL = 8_192
"""Rows of a frame that is cut for a limited pool: what a point read of a cold frame has to load at most."""
_UNSEEN = 64
"""Frames below this many bytes stay in memory: the cell itself costs as much."""


class ColdStore(Protocol):
    """Keeps bytes by number, for one job and one run of it. Used by the engine's thread only."""

    def put(self, number: int, payload: bytes) -> None:
        """Keeps a payload.

        Raises:
            StateError: it can't; the job stops, and goes on from its last commit when it is started again.
        """

    def get(self, number: int) -> bytes:
        """The payload.

        Raises:
            StateError: it is not there, or can't be read.
        """

    def drop(self, numbers: list[int]) -> None:
        """Forgets payloads."""

    def close(self) -> None:
        """Removes what the run has left, and lets go."""


class Cell:
    """One frame of a pool."""

    __slots__ = ("__weakref__", "_frame", "_number", "_pool", "bytes", "height")

    def __init__(self, pool: StatePool, frame: pl.DataFrame) -> None:
        self._pool = pool
        self._frame: pl.DataFrame | None = frame
        self._number = -1
        self.height = frame.height
        self.bytes = int(frame.estimated_size())

    def load(self) -> pl.DataFrame:
        """The frame, from the cold store where it is not in memory."""
        frame = self._frame
        if frame is None:
            frame = self._frame = self._pool._fetch(self._number)
            self._pool._came(self)
        elif self._pool.limited:
            self._pool._used(self)
        return frame

    @property
    def resident(self) -> bool:
        """Whether the frame is in memory."""
        return self._frame is not None

    def __del__(self) -> None:
        # Nothing here may fail: what has to be told to the store waits in a list.
        self._pool._gone(id(self))
        if self._number >= 0:
            self._pool._garbage.append(self._number)


class StatePool:
    """The cells of one job.

    Args:
        limit: bytes that frames may take in memory; None: no limit, and no cold store.
        cold: where the rest goes.
        ttl: how long process() state lives that names no time of its own, ms.
    """

    def __init__(self, limit: int | None = None, cold: ColdStore | None = None, *, ttl: int | None = None) -> None:
        self.limit = limit if cold is not None else None
        self.ttl = ttl
        self.spilled_bytes = 0
        """Written to the cold store since the start (before compression)."""
        self.loaded_bytes = 0
        """Read back from it."""
        self._cold = cold
        self._resident: OrderedDict[int, tuple[int, ref[Cell]]] = OrderedDict()
        """By identity, the least recently used first."""
        self._held = 0
        self._next = 0
        self._garbage: list[int] = []

    @property
    def limited(self) -> bool:
        """Whether frames may have to leave memory."""
        return self.limit is not None

    @property
    def resident_bytes(self) -> int:
        """What the frames in memory take; counted where there is a limit."""
        return self._held

    def hold(self, frame: pl.DataFrame) -> Cell:
        """Takes a frame that nobody will change."""
        cell = Cell(self, frame)
        if self.limited:
            self._came(cell)
        return cell

    def close(self) -> None:
        """Lets go of the cold store."""
        if self._cold is not None:
            self._cold.close()

    # -- called by cells

    def _came(self, cell: Cell) -> None:
        if cell.bytes < _UNSEEN:
            return
        self._resident[id(cell)] = (cell.bytes, ref(cell))
        self._held += cell.bytes
        self._make_room(id(cell))

    def _used(self, cell: Cell) -> None:
        if id(cell) in self._resident:
            self._resident.move_to_end(id(cell))

    def _gone(self, key: int) -> None:
        size, _ = self._resident.pop(key, (0, None))
        self._held -= size

    def _make_room(self, newest: int) -> None:
        assert self.limit is not None
        while self._held > self.limit and len(self._resident) > 1:
            key = next(iter(self._resident))
            if key == newest:  # it alone is over the limit
                self._resident.move_to_end(key)
                continue
            _, reference = self._resident[key]
            cell = reference()
            self._gone(key)
            if cell is not None:
                self._spill(cell)
        self._sweep()

    def _spill(self, cell: Cell) -> None:
        assert self._cold is not None
        frame = cell._frame
        assert frame is not None
        if cell._number < 0:
            buffer = io.BytesIO()
            frame.write_ipc_stream(buffer, compression="zstd")
            self._cold.put(self._next, buffer.getvalue())
            cell._number, self._next = self._next, self._next + 1
            self.spilled_bytes += cell.bytes
        cell._frame = None

    def _fetch(self, number: int) -> pl.DataFrame:
        assert self._cold is not None
        payload = self._cold.get(number)
        try:
            frame = pl.read_ipc_stream(io.BytesIO(payload))
        except (pl.exceptions.PolarsError, OSError, EOFError, ValueError) as error:
            raise StateError(f"working state {number} can't be read back from its backend: {error}") from error
        self.loaded_bytes += int(frame.estimated_size())
        return frame

    def _sweep(self) -> None:
        if len(self._garbage) >= 64 and self._cold is not None:
            garbage, self._garbage = self._garbage, []
            self._cold.drop(garbage)


_IN_MEMORY = StatePool()
_current: ContextVar[StatePool] = ContextVar("thalweg_state_pool", default=_IN_MEMORY)


def current_pool() -> StatePool:
    """The pool of the job whose operators are being built; frames in memory where there is none."""
    return _current.get()


@contextmanager
def using(pool: StatePool) -> Iterator[None]:
    """Meanwhile state structures that are made belong to this pool."""
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
