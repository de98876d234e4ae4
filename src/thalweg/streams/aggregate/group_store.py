"""Partial rows by slot: in arrays that are updated in place where parts and types allow it, else as rows in frames.

Arrays (*cells*) cost a kernel pass per batch and no query; frames take every part and type, and can be spilled. A store
begins with frames, and decides when it sees the first events; it goes back to frames, for good, where a column's type
changes to one that its arrays can't take.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.aggregate.accumulators import Accumulators
from thalweg.streams.aggregate.plan import Table
from thalweg.streams.batch import with_column, without
from thalweg.streams.operator import Memory
from thalweg.streams.state.pool import current_pool
from thalweg.streams.state.row_store import SLOT, RowStore


class Cells:
    """Partial rows in arrays, one per slot."""

    def __init__(self, accumulators: Accumulators, types: dict[str, pl.DataType]) -> None:
        self._accumulators = accumulators
        self._types = types
        self.held = np.zeros(0, dtype=np.bool_)
        """Which slots have a row."""

    def fit(self, events: pl.DataFrame) -> bool:
        """Whether events of these types can be added."""
        return all(events.schema[name] == dtype for name, dtype in self._types.items())

    def fit_rows(self, rows: pl.DataFrame) -> bool:
        """Whether such partial rows can be added."""
        return dict(without(rows, SLOT).schema) == self._accumulators.schema  # in any order

    def reserve(self, capacity: int) -> None:
        """Makes room for slots below `capacity`."""
        if capacity > len(self.held):
            self.held = np.append(self.held, np.zeros(capacity - len(self.held), dtype=np.bool_))
            self._accumulators.reserve(capacity)

    def add(self, slots: Int64s, events: pl.DataFrame) -> None:
        """Adds events."""
        self._accumulators.add(slots, events)
        self.held[slots] = True

    def merge(self, rows: pl.DataFrame) -> None:
        """Adds partial rows to those of their slots."""
        slots = np.ascontiguousarray(rows.get_column(SLOT).to_numpy())
        self._accumulators.merge(slots, rows)
        self.held[slots] = True

    def read(self, slots: Int64s) -> pl.DataFrame | None:
        """The rows of those of these slots that have one, in their order."""
        slots = slots[self.held[slots]]
        if not len(slots):
            return None
        return pl.DataFrame([*self._accumulators.columns(slots), pl.Series(SLOT, slots)])

    def free(self, slots: Int64s) -> None:
        """Forgets the rows of these slots."""
        self._accumulators.clear(slots)
        self.held[slots] = False

    def memory(self) -> Memory:
        """Rows, and bytes of the arrays."""
        return Memory(int(np.count_nonzero(self.held)), self._accumulators.bytes + self.held.nbytes)


class GroupStore:
    """What is kept of one table of an aggregate plan, by slot: the calls of a `RowStore`, and those that add in place.

    Itemised tables, and all tables of jobs whose state may be spilled, stay with frames.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = RowStore()
        self._cells: Cells | None = None
        self._open = not table.items and not current_pool().limited
        """Whether it is still to be decided."""
        self._capacity = 0

    @property
    def in_place(self) -> bool:
        """Whether it keeps arrays now."""
        return self._cells is not None

    def decide(self, events: pl.DataFrame) -> bool:
        """Takes the form that such events allow; whether they can be added in place."""
        if self._cells is not None and not self._cells.fit(events):
            self._to_frames()
        elif self._open:
            self._open = False
            self._cells = self._to_cells(events)
        return self._cells is not None

    def _to_cells(self, events: pl.DataFrame) -> Cells | None:
        accumulators = Accumulators.of(self._table.parts, events)
        if accumulators is None:
            return None
        inputs = [part.input.column for part in self._table.parts if part.input is not None]
        cells = Cells(accumulators, {name: events.schema[name] for name in inputs})
        cells.reserve(self._capacity)
        held = self._rows.read(np.arange(self._capacity))
        if held is not None:
            if not cells.fit_rows(held):
                return None
            cells.merge(held)
        self._rows = RowStore()
        return cells

    def _to_frames(self) -> None:
        assert self._cells is not None
        held = self._cells.read(np.arange(self._capacity))
        self._cells = None
        self._rows = RowStore()
        self._rows.reserve(self._capacity)
        if held is not None:
            self._rows.write(held)

    # -- in place

    def add(self, slots: Int64s, events: pl.DataFrame) -> None:
        """Adds events, each to its slot; only where `decide` said that it can."""
        assert self._cells is not None
        self._cells.add(slots, events)

    def unite(self, gone: Int64s, into: Int64s) -> None:
        """Adds what the slots `gone` have to the slots `into`; those of `gone` keep it. In place only."""
        assert self._cells is not None
        some = self._cells.held[gone]
        rows = self._cells.read(gone[some])
        if rows is not None:
            self._cells.merge(with_column(rows, pl.Series(SLOT, into[some])))

    # -- as a RowStore

    def has(self, slots: Int64s) -> npt.NDArray[np.bool_]:
        """Which of these slots have rows."""
        return self._rows.has(slots) if self._cells is None else self._cells.held[slots]

    def reserve(self, capacity: int) -> None:
        """Makes room for slots below `capacity`."""
        self._capacity = max(capacity, self._capacity)
        (self._rows if self._cells is None else self._cells).reserve(capacity)

    def read(self, slots: Int64s) -> pl.DataFrame | None:
        """The rows of these slots with `__slot`; None where none of them has rows."""
        return (self._rows if self._cells is None else self._cells).read(slots)

    def in_order(self, slots: Int64s) -> pl.DataFrame:
        """The row of each of these slots with `__slot`, in the order of `slots`: each has exactly one."""
        if self._cells is None:
            return self._rows.in_order(slots)
        rows = self._cells.read(slots)
        assert rows is not None
        assert rows.height == len(slots)
        return rows

    def write(self, rows: pl.DataFrame) -> None:
        """Sets the rows of the slots that occur in `__slot`; what they had before is void."""
        if self._cells is not None and not self._cells.fit_rows(rows):
            self._to_frames()
        if self._cells is None:
            self._rows.write(rows)
        else:
            self._cells.free(rows.get_column(SLOT).to_numpy())
            self._cells.merge(rows)

    def free(self, slots: Int64s) -> None:
        """Forgets the rows of these slots."""
        (self._rows if self._cells is None else self._cells).free(slots)

    def memory(self) -> Memory:
        """Rows held, and their bytes."""
        return (self._rows if self._cells is None else self._cells).memory()
