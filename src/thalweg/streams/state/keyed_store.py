"""State by key, in columns: a row of values per key, and collections (lists, maps, timers) of rows per key.

A batch reads and writes the keys that it touches; nothing costs a scan of the others. Saved as "keys", one row per key
that has changed, and "rows/<collection>", all rows of the collections that have changed of a key. What is saved of a
key supersedes what was saved of it before: the key's row names the snapshot in which each collection was last saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.due_queue import NEVER, DueQueue
from thalweg.streams.state.evolution import aligned
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.key_index import KeyIndex
from thalweg.streams.state.row_store import SLOT, RowStore

Slots = npt.NDArray[np.int64]

VALUE, WRITTEN = "v:", "t:"
"""Prefixes of a value's column, and of the time it was written (Int64, ms), where it has a time to live."""
ROW_WRITTEN = "__written"
"""The same of a row of a collection."""
GONE = "__gone"
_VERSION = "n:"
_SNAPSHOT = "__snapshot"
_ONE = "__one"
"""The key column where there is none."""
_KEYS, _ROWS = "keys", "rows/"


@dataclass(frozen=True)
class Collection:
    """Rows per key."""

    name: str
    columns: Mapping[str, pl.DataType]
    ttl: int | None = None
    """How long a row lives after it was written, ms; its time is the column `__written`."""

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """All columns."""
        return {**self.columns, **({} if self.ttl is None else {ROW_WRITTEN: pl.Int64()})}


class KeyedStore:
    """The state of one operator.

    Args:
        keys: the key columns; none: one group for all.
        values: name → type.
        ttls: how long a value lives, ms, by name; not all need one.
        collections: rows per key.
        where: whose state it is, for errors.
    """

    def __init__(
        self,
        keys: Sequence[str],
        values: Mapping[str, pl.DataType],
        collections: Iterable[Collection] = (),
        ttls: Mapping[str, int] | None = None,
        where: str = "state",
    ) -> None:
        self.keys = list(keys)
        self.ttls = dict(ttls or {})
        self.columns: dict[str, pl.DataType] = {VALUE + name: dtype for name, dtype in values.items()}
        self.columns |= {WRITTEN + name: pl.Int64() for name in self.ttls}
        self.collections = {collection.name: collection for collection in collections}
        self.index = KeyIndex()
        self._where = where
        self._names, self._values = RowStore(), RowStore()
        self._rows = {name: RowStore() for name in self.collections}
        self._version = {name: np.zeros(0, dtype=np.int64) for name in self.collections}
        self._expiry = DueQueue()
        self._number = 0
        self._durable = np.zeros(0, dtype=bool)
        self._changed: list[Slots] = []
        self._changed_rows: dict[str, list[Slots]] = {name: [] for name in self.collections}
        self._gone: list[pl.DataFrame] = []

    def __len__(self) -> int:
        return len(self.index)

    # -- keys

    def slots(self, frame: pl.DataFrame) -> Slots:
        """The slot of each row's key; keys that are new get one."""
        keys = frame.select(self.keys)
        slots, created = self.index.assign(keys, frame.height)
        self._reserve()
        if len(created):
            self._names.write(self._named(keys, created, slots[created]))
        return slots

    def find(self, frame: pl.DataFrame) -> Slots:
        """The slots of those of these keys that there are."""
        slots = self.index.find(frame.select(self.keys), frame.height)
        return slots[slots >= 0]

    def names(self, slots: Slots) -> pl.DataFrame:
        """The key columns of these slots with `__slot`, in order of the slots."""
        found = self._names.read(slots)
        assert found is not None or not len(slots), "every key has its columns"
        return pl.DataFrame({SLOT: slots}) if found is None else found.sort(SLOT)

    def _named(self, keys: pl.DataFrame, rows: Slots, slots: Slots) -> pl.DataFrame:
        if not self.keys:
            return pl.DataFrame({_ONE: [True], SLOT: slots})
        return keys[rows].with_columns(pl.Series(SLOT, slots))

    def _reserve(self) -> None:
        capacity = self.index.capacity
        for store in (self._names, self._values, *self._rows.values()):
            store.reserve(capacity)
        self._expiry.reserve(capacity)
        more = capacity - len(self._durable)
        if more > 0:
            self._durable = np.append(self._durable, np.zeros(more, dtype=bool))
            for name, versions in self._version.items():
                self._version[name] = np.append(versions, np.full(more, -1, dtype=np.int64))

    # -- values and rows

    def read(self, slots: Slots) -> pl.DataFrame:
        """The values of these slots with `__slot`; slots without any are left out."""
        found = self._values.read(slots)
        return pl.DataFrame(schema={**self.columns, SLOT: pl.Int64()}) if found is None else found

    def write(self, values: pl.DataFrame) -> None:
        """Sets all values of the slots in `__slot`; null: none."""
        if not values.height or not self.columns:
            return
        empty = values.select(pl.all_horizontal(pl.col(list(self.columns)).is_null())).to_series()
        slots = values[SLOT].to_numpy()
        if empty.any():
            self._values.free(slots[empty.to_numpy()])
            values = values.filter(~empty)
        self._values.write(values.select(*self.columns, SLOT))
        self._changed.append(slots)
        for name, ttl in self.ttls.items():
            self._expire_after(values[SLOT], values[WRITTEN + name], ttl)

    def read_rows(self, name: str, slots: Slots) -> pl.DataFrame:
        """A collection's rows of these slots with `__slot`, in their order within each slot."""
        found = self._rows[name].read(slots)
        schema = {**self.collections[name].schema, SLOT: pl.Int64()}
        return pl.DataFrame(schema=schema) if found is None else found

    def write_rows(self, name: str, slots: Slots, rows: pl.DataFrame) -> None:
        """Sets a collection's rows of these slots; those that have none in `rows` lose theirs."""
        store = self._rows[name]
        store.free(slots)
        store.write(rows)
        self._changed.append(slots)
        self._changed_rows[name].append(slots)
        ttl = self.collections[name].ttl
        if ttl is not None and rows.height:
            self._expire_after(rows[SLOT], rows[ROW_WRITTEN], ttl)

    def has_rows(self, name: str, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of these slots have rows in a collection."""
        return self._rows[name].has(slots)

    def _expire_after(self, slots: pl.Series, written: pl.Series, ttl: int) -> None:
        times = pl.DataFrame({SLOT: slots, "at": written}).drop_nulls().group_by(SLOT).agg(pl.col("at").min() + ttl)
        self._expiry.lower(times[SLOT].to_numpy(), times["at"].to_numpy())

    def prune(self, slots: Slots) -> Slots:
        """Forgets those keys that hold nothing; returns their slots."""
        slots = self.index.alive(np.unique(slots))
        held = self._values.has(slots)
        for store in self._rows.values():
            held |= store.has(slots)
        empty = slots[~held]
        if len(empty):
            saved = empty[self._durable[empty]]
            if len(saved):
                self._gone.append(self.names(saved))
            self._durable[empty] = False
            for versions in self._version.values():
                versions[empty] = -1
            self._expiry.set(empty, np.full(len(empty), NEVER, dtype=np.int64))
            self._names.free(empty)
            self.index.remove(empty)
        return empty

    def expire(self, now: int) -> Slots:
        """Drops what has outlived its time; returns the slots of the keys that hold nothing any more."""
        due = self._expiry.due(now)
        if not len(due):
            return due
        values = self.read(due)
        if values.height and self.ttls:
            over = {name: pl.col(WRITTEN + name) + ttl <= now for name, ttl in self.ttls.items()}
            kept = [
                pl.when(over[name]).then(None).otherwise(pl.col(prefix + name)).alias(prefix + name)
                for name in self.ttls
                for prefix in (VALUE, WRITTEN)
            ]
            self.write(values.with_columns(kept))
        for name, collection in self.collections.items():
            rows = self.read_rows(name, due) if collection.ttl is not None else None
            if rows is not None and rows.height:
                alive = rows.filter(pl.col(ROW_WRITTEN) + collection.ttl > now)
                # Also where nothing is over: it asks for the next time.
                self.write_rows(name, rows[SLOT].unique().to_numpy(), alive)
        return self.prune(due)

    def memory(self) -> Memory:
        """Keys and rows held, and bytes in memory, the index included."""
        held = sum((store.memory() for store in (self._names, self._values, *self._rows.values())), Memory())
        return held + Memory(0, self.index.capacity * (32 + 8 * len(self._rows) + 40))

    # -- snapshots

    def snapshot(self, *, full: bool) -> StateDelta:
        """What changed since the last snapshot, or everything."""
        self._number += 1
        puts = [] if full else [(_KEYS, self._label(gone, gone=True)) for gone in self._gone]
        for name in self.collections:
            changed = self._alive(self._changed_rows[name])
            self._version[name][changed] = self._number
            slots = self.index.alive() if full else changed
            rows = self.read_rows(name, slots) if len(slots) else None
            if rows is not None and rows.height:
                named = rows.join(self.names(slots), on=SLOT)
                # Not of this snapshot: a full one may be written beside the deltas, which must not name it.
                named = named.with_columns(pl.Series(_SNAPSHOT, self._version[name][named[SLOT].to_numpy()]))
                puts.append((_ROWS + name, self._grouped(named.drop(SLOT))))
        slots = self.index.alive() if full else self._alive(self._changed)
        if len(slots):
            names = self.names(slots)
            puts.append((_KEYS, self._label(names.join(self.read(slots), on=SLOT, how="left"), gone=False)))
            self._durable[slots] = True
        self._changed, self._gone = [], []
        self._changed_rows = {name: [] for name in self.collections}
        return StateDelta(puts=puts, full=full)

    def _alive(self, changed: Sequence[Slots]) -> Slots:
        return self.index.alive(np.unique(np.concatenate(changed))) if changed else np.zeros(0, dtype=np.int64)

    def _label(self, keys: pl.DataFrame, *, gone: bool) -> pl.DataFrame:
        slots = keys[SLOT].to_numpy()
        versions = [pl.Series(_VERSION + name, versions[slots]) for name, versions in self._version.items()]
        return self._grouped(keys.with_columns(pl.lit(gone).alias(GONE), *versions).drop(SLOT))

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(key_groups(rows, self.keys))

    def restore(self, state: State) -> None:
        """Takes back what snapshots gave, also where values and collections were added, removed or widened since."""
        saved = state.get(_KEYS, ())
        if not saved:
            return
        rows = pl.concat([frame.drop(KEY_GROUP) for frame in saved], how="diagonal_relaxed")
        identity = self.keys or [_ONE]
        rows = rows.unique(subset=identity, keep="last", maintain_order=True).filter(~pl.col(GONE))
        slots, _ = self.index.assign(rows.select(self.keys), rows.height)
        self._reserve()
        self._durable[slots] = True
        slotted = rows.with_columns(pl.Series(SLOT, slots))
        self._names.write(slotted.select(*identity, SLOT))
        self.write(aligned(slotted, {**self.columns, SLOT: pl.Int64()}, self._where))
        for name in self.collections:
            self._restore_rows(name, state.get(_ROWS + name, ()), slotted, identity)
        versions = [int(rows[n].max() or 0) for n in rows.columns if n.startswith(_VERSION)]  # type: ignore[arg-type]
        self._number = max(versions, default=0)
        self._changed = []
        self._changed_rows = {name: [] for name in self.collections}

    def _restore_rows(
        self, name: str, frames: Sequence[pl.DataFrame], keys: pl.DataFrame, identity: Sequence[str]
    ) -> None:
        version = _VERSION + name
        if not frames or version not in keys.columns:
            return
        rows = pl.concat([frame.drop(KEY_GROUP) for frame in frames], how="diagonal_relaxed")
        # `maintain_order`: a list is a list.
        rows = rows.join(
            keys.select(*identity, SLOT, pl.col(version).alias(_VERSION)),
            on=identity,
            nulls_equal=True,
            maintain_order="left",
        ).filter(pl.col(_SNAPSHOT) == pl.col(_VERSION))
        self._version[name][keys[SLOT].to_numpy()] = keys[version].fill_null(-1).to_numpy()
        wanted = {**self.collections[name].schema, SLOT: pl.Int64()}
        rows = aligned(rows, wanted, f"{self._where}, {name!r}")
        self.write_rows(name, rows[SLOT].unique().to_numpy(), rows)
