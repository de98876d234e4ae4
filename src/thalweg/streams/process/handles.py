"""State as a keyed function sees it: of the key at hand, as plain Python values.

Values of the keys of a batch are taken out of the columns together, used, and what changed is put back together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import polars as pl

from thalweg.streams.state.keyed_store import ROW_WRITTEN, VALUE, WRITTEN, KeyedStore, Slots
from thalweg.streams.state.row_store import SLOT

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

_PLAIN: dict[type[pl.DataType], tuple[type, ...]] = {
    pl.String: (str,),
    pl.Boolean: (bool,),
    pl.Binary: (bytes,),
    pl.Float64: (float, int),
}


class Now:
    """Which key is at hand, and the times by which its state is read and written (ms)."""

    __slots__ = ("slot", "undo", "watermark", "written")

    def __init__(self) -> None:
        self.slot = -1
        self.watermark = 0
        """What has outlived its time by this watermark is not there."""
        self.written = 0
        """What is written now is as of this time."""
        self.undo: list[tuple[Any, ...]] = []
        """How to take back what the event at hand has changed: functions and their arguments."""


class Handle:
    """The base of the handles: items of the batch's keys, taken in when they are first asked for."""

    def __init__(self, name: str, dtype: pl.DataType, ttl: int | None, now: Now) -> None:
        self.name = name
        self.dtype = dtype
        self.ttl = ttl
        self._now = now
        self._fits = _checker(dtype, name)
        self.held: dict[int, Any] = {}
        self.dirty: set[int] = set()
        self._slots: Slots | None = None

    def begin(self, slots: Slots) -> None:
        """Starts a batch that touches these keys."""
        self._slots = slots
        self.held.clear()
        self.dirty.clear()

    def _fresh(self, written: int | None) -> bool:
        return self.ttl is None or written is None or written + self.ttl > self._now.watermark

    def _touch(self, before: Any) -> None:
        """Notes that the key's item is about to change."""
        now, dirty = self._now, self.dirty
        slot = now.slot
        now.undo.append((self._back, slot, before, slot in dirty))
        dirty.add(slot)

    def _back(self, slot: int, before: Any, was_dirty: bool) -> None:
        self.held[slot] = before
        if not was_dirty:
            self.dirty.discard(slot)


class Value(Handle, Generic[T]):
    """One value of the key at hand."""

    def __init__(self, name: str, dtype: pl.DataType, default: T | None, ttl: int | None, now: Now) -> None:
        super().__init__(name, dtype, ttl, now)
        self.default = default

    def fill(self, values: pl.DataFrame) -> None:
        """Takes the values of a batch's keys, with `__slot`."""
        items = values[VALUE + self.name].to_list()
        times: Iterable[int | None]
        times = values[WRITTEN + self.name].to_list() if self.ttl is not None else [None] * len(items)
        self.held.update(zip(values[SLOT].to_list(), zip(items, times, strict=True), strict=True))

    def get(self) -> T:
        """The value; the default (None where none was given) where there is none, or its time is over."""
        found = self.held.get(self._now.slot)
        value = None if found is None or not self._fresh(found[1]) else found[0]
        if value is None:
            value = self.default
        # A copy where it could be changed in place, which nobody would notice.
        return copy.copy(value) if isinstance(value, list | dict) else value  # type: ignore[return-value]

    def set(self, value: T | None) -> None:
        """Sets the value; None clears it.

        Raises:
            TypeError, OverflowError: it is not of the declared type.
        """
        fitting = None if value is None else self._fits(value)
        self._touch(self.held.get(self._now.slot))
        self.held[self._now.slot] = (fitting, None if fitting is None else self._now.written)

    def clear(self) -> None:
        """Forgets the value."""
        self.set(None)

    def columns(self, slots: list[int]) -> list[pl.Series]:
        """The values of these keys as columns."""
        found = [self.held.get(slot) or (None, None) for slot in slots]
        made = [pl.Series(VALUE + self.name, [value for value, _ in found], dtype=self.dtype)]
        if self.ttl is not None:
            made.append(pl.Series(WRITTEN + self.name, [time for _, time in found], dtype=pl.Int64))
        return made


class CollectionHandle(Handle):
    """The base of lists and maps: `held` has a container for each key that was asked for."""

    store: KeyedStore
    """Set by the operator."""
    _loaded = False

    def begin(self, slots: Slots) -> None:
        super().begin(slots)
        self._loaded = False

    def _load(self) -> None:
        """Takes in this collection of all keys of the batch, the first time that one of them is asked for."""
        assert self._slots is not None
        self._loaded = True
        slots = self._slots[self.store.has_rows(self.name, self._slots)]
        if not len(slots):
            return
        rows = self.store.read_rows(self.name, slots)
        columns = [rows[name].to_list() for name in rows.columns]
        at = rows.columns.index(SLOT)
        for row in zip(*columns, strict=True):
            self._take(row[at], dict(zip(rows.columns, row, strict=True)))

    def _take(self, slot: int, row: dict[str, Any]) -> None:
        raise NotImplementedError

    def rows(self, slots: Iterable[int]) -> pl.DataFrame:
        """The collection of these keys as rows with `__slot`."""
        raise NotImplementedError


class Items(CollectionHandle, Generic[T]):
    """The list of the key at hand."""

    def _own(self) -> list[tuple[T, int | None]]:
        if not self._loaded:
            self._load()
        return self.held.setdefault(self._now.slot, [])  # type: ignore[no-any-return]

    def _take(self, slot: int, row: dict[str, Any]) -> None:
        self.held.setdefault(slot, []).append((row["value"], row.get(ROW_WRITTEN)))

    def get(self) -> list[T]:
        """A copy of the list."""
        return [item for item, written in self._own() if self._fresh(written)]

    def __iter__(self) -> Iterator[T]:
        return iter(self.get())

    def __len__(self) -> int:
        own = self._own()
        return len(own) if self.ttl is None else sum(self._fresh(written) for _, written in own)

    def append(self, item: T) -> None:
        """Adds an item."""
        fitting = self._fits(item)
        own = self._own()
        self._touch(own)
        own.append((fitting, self._now.written))
        self._now.undo.append((own.pop,))

    def set(self, items: Iterable[T]) -> None:
        """Replaces the list; its items count as written now."""
        fitting = [(self._fits(item), self._now.written) for item in items]
        self._touch(self._own())
        self.held[self._now.slot] = fitting

    def clear(self) -> None:
        """Forgets all items."""
        self.set(())

    def rows(self, slots: Iterable[int]) -> pl.DataFrame:
        found = [(slot, item, written) for slot in slots for item, written in self.held.get(slot, ())]
        columns = [
            pl.Series("value", [item for _, item, _ in found], dtype=self.dtype),
            pl.Series(SLOT, [slot for slot, _, _ in found], dtype=pl.Int64),
        ]
        if self.ttl is not None:
            columns.append(pl.Series(ROW_WRITTEN, [written for _, _, written in found], dtype=pl.Int64))
        return pl.DataFrame(columns)


class Entries(CollectionHandle, Generic[K, V]):
    """The dictionary of the key at hand."""

    def __init__(self, name: str, key: pl.DataType, value: pl.DataType, ttl: int | None, now: Now) -> None:
        super().__init__(name, value, ttl, now)
        self.key_dtype = key
        self._fits_key = _checker(key, f"{name} (key)")

    def _own(self) -> dict[K, tuple[V, int | None]]:
        if not self._loaded:
            self._load()
        return self.held.setdefault(self._now.slot, {})  # type: ignore[no-any-return]

    def _take(self, slot: int, row: dict[str, Any]) -> None:
        self.held.setdefault(slot, {})[row["key"]] = (row["value"], row.get(ROW_WRITTEN))

    def get(self, key: K, default: V | None = None) -> V | None:
        """The value of an entry, or the default."""
        found = self._own().get(key)
        return found[0] if found is not None and self._fresh(found[1]) else default

    def put(self, key: K, value: V) -> None:
        """Sets an entry."""
        fitting, name = self._fits(value), self._fits_key(key)
        self._change(name)
        self._own()[name] = (fitting, self._now.written)

    def remove(self, key: K) -> None:
        """Forgets an entry, if there is one."""
        if key in self._own():
            self._change(key)
            del self._own()[key]

    def _change(self, key: K) -> None:
        own = self._own()
        self._touch(own)
        before, order = own.get(key), None if key not in own else list(own)

        def back() -> None:
            own.pop(key, None)
            if before is not None and order is not None:
                own[key] = before
                for name in order[order.index(key) + 1 :]:  # where it stood
                    own[name] = own.pop(name)

        self._now.undo.append((back,))

    def __contains__(self, key: K) -> bool:
        found = self._own().get(key)
        return found is not None and self._fresh(found[1])

    def __len__(self) -> int:
        return len(self.items())

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, _ in self.items()])

    def items(self) -> list[tuple[K, V]]:
        """The entries, in the order in which their keys were first put."""
        return [(key, value) for key, (value, written) in self._own().items() if self._fresh(written)]

    def clear(self) -> None:
        """Forgets all entries."""
        self._touch(self._own())
        self.held[self._now.slot] = {}

    def rows(self, slots: Iterable[int]) -> pl.DataFrame:
        found = [(slot, key, *entry) for slot in slots for key, entry in self.held.get(slot, {}).items()]
        columns = [
            pl.Series("key", [row[1] for row in found], dtype=self.key_dtype),
            pl.Series("value", [row[2] for row in found], dtype=self.dtype),
            pl.Series(SLOT, [row[0] for row in found], dtype=pl.Int64),
        ]
        if self.ttl is not None:
            columns.append(pl.Series(ROW_WRITTEN, [row[3] for row in found], dtype=pl.Int64))
        return pl.DataFrame(columns)


def _checker(dtype: pl.DataType, name: str) -> Callable[[Any], Any]:
    """What gives a value as its column would give it back, or raises."""
    if dtype.is_integer():
        low, high = _bounds(dtype)

        def whole(value: Any) -> int:
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"state {name!r} is {dtype}; got {value!r}")
            if not low <= value <= high:
                raise OverflowError(f"state {name!r} is {dtype}; {value} does not fit")
            return value

        return whole
    kinds = _PLAIN.get(type(dtype))
    if kinds is not None:

        def plain(value: Any) -> Any:
            fits = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
            if not fits:
                raise TypeError(f"state {name!r} is {dtype}; got {value!r}")
            return float(value) if float in kinds else value

        return plain

    def through_a_column(value: Any) -> Any:
        try:
            return pl.Series([value], dtype=dtype, strict=True).item()
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"state {name!r} is {dtype}; got {value!r}: {error}") from error

    return through_a_column


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    low, high = pl.select(low=dtype.min(), high=dtype.max()).row(0)  # type: ignore[attr-defined]
    return int(low), int(high)
