"""Rows owned by slots, as a log of frames with pointers: each slot has one contiguous run of rows in one frame.

A write supersedes the slot's earlier rows, which become garbage; frames are rewritten without it, a few at a time. So
reading and writing cost what is read and written, and a step for each 65,536 rows held; never a scan of the store.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.batch import gathered_at, stacked, with_column, without
from thalweg.streams.operator import Memory
from thalweg.streams.state.chunks import Chunks
from thalweg.streams.state.pool import SMALL, Cell, current_pool
from thalweg.streams.state.runs import compact_strings
from thalweg.streams.state.slot_table import grown

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

SLOT = "__slot"
"""Int64 column that names the slot of a row, in what goes in and comes out."""


class RowStore:
    """Rows by slot. Columns may be added and widened over time (as in a diagonal, relaxed concatenation)."""

    def __init__(self) -> None:
        self._pool = current_pool()
        self._frames: dict[int, Cell] = {}
        self._owners: dict[int, Int32s] = {}
        self._live: dict[int, int] = {}
        self._next = 0
        self._chunks: Chunks | None = None
        self._frame = np.zeros(0, dtype=np.int64)
        self._offset = self._length = np.zeros(0, dtype=np.int32)

    def __len__(self) -> int:
        return sum(self._live.values())

    def memory(self) -> Memory:
        """Rows held, and bytes of the frames in memory, garbage and pointers included."""
        frames = sum(cell.bytes for cell in self._frames.values() if cell.resident)
        owners = sum(of.nbytes for of in self._owners.values())
        pointers = self._frame.nbytes + self._offset.nbytes + self._length.nbytes
        return Memory(len(self), frames + owners + pointers)

    def has(self, slots: Int64s) -> npt.NDArray[np.bool_]:
        """Which of these slots have rows."""
        found: npt.NDArray[np.bool_] = self._frame[slots] >= 0
        return found

    @property
    def _large(self) -> int:
        return SMALL if self._pool.limited else _LARGE

    def reserve(self, capacity: int) -> None:
        """Makes room for slots below `capacity`."""
        if capacity > len(self._frame):
            for name in ("_frame", "_offset", "_length"):
                setattr(self, name, grown(getattr(self, name), capacity))

    def write(self, rows: pl.DataFrame) -> None:
        """Sets the rows of the slots that occur in `__slot`; what they had before is void."""
        if not rows.height:
            return
        rows = rows.sort(SLOT, maintain_order=True)
        slots = rows[SLOT].to_numpy()
        offsets = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
        owners = slots[offsets].astype(np.int64)
        self.free(owners)
        self._place(owners, offsets, np.diff(offsets, append=len(slots)), without(rows, SLOT))
        self._tidy(rows.height)

    def read(self, slots: Int64s) -> pl.DataFrame | None:
        """The rows of these slots with `__slot`, in no particular order; None where none of them has rows."""
        slots = slots[self._frame[slots] >= 0]
        if not len(slots):
            return None
        chunks = self._as_chunks()
        return self._gathered(slots[self._by_frame(slots)]) if chunks is None else self._picked(chunks, slots)

    def in_order(self, slots: Int64s) -> pl.DataFrame:
        """The row of each of these slots with `__slot`, in the order of `slots`: each has exactly one."""
        chunks = self._as_chunks()
        if chunks is not None:
            return self._picked(chunks, slots)
        order = self._by_frame(slots)
        rows = self._gathered(slots[order])
        back = np.empty(len(order), dtype=np.uint32)
        back[order] = np.arange(len(order), dtype=np.uint32)
        return gathered_at(rows, pl.Series(back))

    def _as_chunks(self) -> Chunks | None:
        """All frames as one of many chunks; None where some may not be in memory, or can't be read in that way."""
        if self._chunks is None:
            if self._pool.limited or not 1 < len(self._frames) <= _MOST_CHUNKS:
                return None
            self._chunks = Chunks((number, cell.load()) for number, cell in self._frames.items())
        return self._chunks if self._chunks.fit else None

    def _picked(self, chunks: Chunks, slots: Int64s) -> pl.DataFrame:
        """The rows of slots that have some, in the order of `slots`."""
        lengths = self._length[slots]
        places = _ranges(chunks.starts(self._frame[slots]) + self._offset[slots], lengths)
        return with_column(chunks.gather(places), pl.Series(SLOT, np.repeat(slots, lengths)))

    def _by_frame(self, slots: Int64s) -> Int64s:
        """The order in which the rows of these slots lie frame by frame."""
        order: Int64s = np.argsort(self._frame[slots], kind="stable")
        return order

    def _gathered(self, slots: Int64s) -> pl.DataFrame:
        """The rows of slots that have some and are sorted by frame."""
        frames, lengths = self._frame[slots], self._length[slots]
        cuts = [0, *(np.flatnonzero(np.diff(frames)) + 1).tolist(), len(slots)]
        ends = np.concatenate([[0], np.cumsum(lengths)])[cuts].tolist()
        # One series of the type that gathers take, cut without copying: with many frames the conversions would be most
        # of the work.
        places = pl.Series(_ranges(self._offset[slots].astype(np.int64), lengths).astype(np.uint32))
        parts = (
            gathered_at(self._frames[number].load(), places[start:end])
            for number, start, end in zip(frames[cuts[:-1]].tolist(), ends, ends[1:], strict=False)
        )
        return with_column(stacked(list(parts)), pl.Series(SLOT, np.repeat(slots, lengths)))

    def free(self, slots: Int64s) -> None:
        """Forgets the rows of these slots."""
        held = slots[self._frame[slots] >= 0]
        if not len(held):
            return
        held = held[self._by_frame(held)]
        frames = self._frame[held]
        starts = np.flatnonzero(np.append(True, frames[1:] != frames[:-1]))
        freed = np.add.reduceat(self._length[held], starts, dtype=np.int64)
        self._frame[held] = -1
        for frame, rows in zip(frames[starts].tolist(), freed.tolist(), strict=True):
            self._live[frame] -= rows
            if not self._live[frame]:
                self._forget(frame)

    def _forget(self, number: int) -> None:
        del self._frames[number], self._owners[number], self._live[number]
        self._chunks = None  # it would keep the frame

    def _place(self, owners: Int64s, offsets: Int64s, lengths: Int64s, rows: pl.DataFrame) -> None:
        """Adds a frame, or several small ones where frames may have to be loaded to read a few rows."""
        if self._pool.limited and rows.height > SMALL:
            cuts = np.flatnonzero(np.diff(offsets // SMALL)) + 1
            for part in np.split(np.arange(len(owners)), cuts):
                start = int(offsets[part[0]])
                piece = rows[np.arange(start, start + int(lengths[part].sum()))]  # a copy: a slice keeps all in memory
                self._place_frame(owners[part], offsets[part] - start, lengths[part], piece)
        else:
            self._place_frame(owners, offsets, lengths, rows)

    def _place_frame(self, owners: Int64s, offsets: Int64s, lengths: Int64s, rows: pl.DataFrame) -> None:
        number, self._next = self._next, self._next + 1
        self._frames[number], self._owners[number] = self._pool.hold(compact_strings(rows)), owners.astype(np.int32)
        self._live[number] = rows.height
        self._frame[owners], self._offset[owners], self._length[owners] = number, offsets, lengths
        if self._chunks is not None:
            self._chunks.add(number, self._frames[number].load())

    def _tidy(self, written: int) -> None:
        """Rewrites the newest frames as one once they are many of like size, and frames that are half garbage.

        What it rewrites at a time is bounded by what was written: large frames are left to become garbage.
        """
        budget = 2 * written + _LARGE // 4
        numbers = list(self._frames)
        chosen: list[int] = []
        total = 0
        for number in reversed(numbers):
            live = self._live[number]
            if live >= self._large or (chosen and live >= 2 * total):
                break
            chosen.append(number)
            total += live
        if len(chosen) < _FAN_IN:
            chosen, total = [], 0
        for number in numbers:
            live = self._live[number]
            if total < budget and 2 * live < self._frames[number].height and number not in chosen:
                chosen.append(number)
                total += live
        if chosen:
            self._rewrite(sorted(chosen))

    def _rewrite(self, numbers: Sequence[int]) -> None:
        owners = [self._owners[n][self._frame[self._owners[n]] == n] for n in numbers]
        slots = np.unique(np.concatenate(owners)).astype(np.int64)
        rows = self.read(slots)
        assert rows is not None
        rows = rows.sort(SLOT, maintain_order=True)
        lengths = self._length[slots].astype(np.int64)
        for number in numbers:
            self._forget(number)
        offsets = np.cumsum(lengths) - lengths
        self._place(slots, offsets, lengths, without(rows, SLOT))


_FAN_IN = 6
_MOST_CHUNKS = 256
"""Putting more frames together costs more than reading the few that are touched."""
_LARGE = 65_536
"""Live rows from which on a frame is no longer merged with others."""


def _ranges(offsets: Int64s, lengths: Int32s) -> Int64s:
    """The concatenation of `range(offset, offset + length)` for all runs."""
    if (lengths == 1).all():
        return offsets
    ends = np.cumsum(lengths)
    result: Int64s = np.repeat(offsets - (ends - lengths), lengths) + np.arange(ends[-1])
    return result
