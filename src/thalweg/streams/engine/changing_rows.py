"""The current rows of an input that may change: appends, changes by key, or whole rows that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, RESERVED, TIMESTAMP, WATERMARK
from thalweg.streams.operator import State
from thalweg.streams.state.keyed_rows import LABELS, KeyedRows
from thalweg.streams.state.row_lists import EARLIEST, Int64s

INSERT, UPDATE, DELETE = "insert", "update", "delete"
_NET, _ORDER = "__net", "__order"


@dataclass(frozen=True, slots=True)
class Changing:
    """What makes a row of an input one and the same from one change to the next."""

    keys: tuple[str, ...] | None = None
    """Its key columns (none: there is one row); None: the input only appends."""
    whole: bool = False
    """The whole row, of which there may be several; rows are inserted and deleted, never updated."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a batch does to the rows held."""

    slots: Int64s
    """Rows that go."""
    old: pl.DataFrame
    """The same as a frame."""
    new: pl.DataFrame
    """Rows that come, without `__op`."""


class ChangingRows:
    """Rows by the columns that they are joined or grouped by (`by`), kept up to date with a changelog.

    Args:
        name: of the state.
        by: the columns that `rows` is keyed by.
        kind: what its changes mean.
        ttl: how long a row is kept, ms of event time; None: for ever.
    """

    def __init__(
        self,
        name: str,
        by: Sequence[str],
        kind: Changing,
        *,
        ttl: int | None = None,
        nulls_equal: bool = False,
    ) -> None:
        self.kind = kind
        bucket = None if ttl is None else max(ttl // 8, 100)
        self.rows = KeyedRows(name, by, bucket=bucket, nulls_equal=nulls_equal, identity=kind.keys)
        self.ttl = ttl
        self._columns: list[str] = []

    def changes(self, frame: pl.DataFrame, *, refresh: bool = False) -> Changes:
        """What a batch means for the rows held; a row that comes and goes within the batch leaves no trace.

        Args:
            refresh: a row that is written again as it was counts as a change, as it lives on from then.
        """
        nothing = np.zeros(0, dtype=np.int64)
        if self.kind.keys is None:
            return Changes(nothing, frame.clear(), frame)
        if CHANGE not in frame.columns:
            frame = frame.with_columns(pl.lit(INSERT).alias(CHANGE))
        return self._of_whole_rows(frame) if self.kind.whole else self._by_key(frame, refresh)

    def _by_key(self, frame: pl.DataFrame, refresh: bool) -> Changes:
        keys = self.kind.keys
        last = frame.unique(keys, keep="last", maintain_order=True) if keys else frame.tail(1)
        probes, slots = self._held(last, most=1)
        if not len(slots):
            return self._made(slots, None, last.filter(pl.col(CHANGE) != DELETE))
        old = self.rows.read(slots)
        there = last[probes]
        # A row goes at the time of what takes its place.
        old = old.with_columns([there[name] for name in (TIMESTAMP, WATERMARK) if name in there.columns])
        same = self._equal(old, there) & (there[CHANGE] != DELETE).to_numpy() & (not refresh)
        unchanged = np.zeros(last.height, dtype=bool)
        unchanged[probes[same]] = True
        new = last.filter((pl.col(CHANGE) != DELETE) & ~pl.Series(unchanged))
        return self._made(slots[~same], old.filter(pl.Series(~same)), new)

    def _of_whole_rows(self, frame: pl.DataFrame) -> Changes:
        columns = [name for name in frame.columns if name not in RESERVED]
        self._columns += [name for name in columns if name not in self._columns]
        self.rows.identity = self._columns
        missing = [pl.lit(None).alias(name) for name in self._columns if name not in columns]
        frame = frame.with_columns(missing)
        sign = pl.when(pl.col(CHANGE) == DELETE).then(-1).otherwise(1).alias(_NET)
        net = frame.with_columns(sign, pl.int_range(pl.len()).alias(_ORDER))
        others = [name for name in frame.columns if name not in self._columns and name != CHANGE]
        kept = [pl.col(name).last() for name in others]
        net = net.group_by(self._columns).agg(pl.col(_NET).sum(), pl.col(_ORDER).last(), *kept).sort(_ORDER)
        net = net.with_columns(pl.lit(INSERT).alias(CHANGE))
        fewer = net.filter(pl.col(_NET) < 0)
        probes, slots = self._held(fewer, most=-int(fewer[_NET].min() or 0))  # type: ignore[arg-type]
        nth = np.arange(len(probes)) - np.searchsorted(probes, probes)  # of the rows that are equal
        slots = slots[nth < -fewer[_NET].to_numpy()[probes]]
        more = net.filter(pl.col(_NET) > 0)
        times = more[_NET].to_numpy()
        new = more.drop(_NET, _ORDER)[np.repeat(np.arange(more.height), times)]
        return self._made(slots, self.rows.read(slots) if len(slots) else None, new)

    def _held(self, rows: pl.DataFrame, most: int) -> tuple[Int64s, Int64s]:
        assert self.rows.identities is not None
        found = list(self.rows.identities.find(self.rows.identify(rows), most=most))
        if not found:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])

    def _made(self, slots: Int64s, old: pl.DataFrame | None, new: pl.DataFrame) -> Changes:
        new = new.drop(CHANGE)
        return Changes(slots, new.clear() if old is None else old, new)

    @staticmethod
    def _equal(old: pl.DataFrame, new: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Where the user's columns are the same."""
        columns = [name for name in new.columns if name not in RESERVED]
        if any(name not in old.columns for name in columns):
            return np.zeros(new.height, dtype=bool)
        same = np.ones(new.height, dtype=bool)
        for name in columns:
            same &= old[name].eq_missing(new[name]).to_numpy()
        return same

    def apply(self, changes: Changes) -> None:
        """Makes the change."""
        self.rows.remove(changes.slots)
        if changes.new.height:
            new = changes.new
            timed = self.ttl is not None
            times = new[TIMESTAMP].to_numpy() if timed else np.zeros(new.height, dtype=np.int64)
            self.rows.add(new, self.rows.keys(new), np.ascontiguousarray(times))

    def expire(self, watermark: int) -> None:
        """Forgets the rows that have outlived their time."""
        if self.ttl is not None:
            self.rows.remove(self.rows.due(watermark - self.ttl - 1), due=True)

    def restore(self, state: State, watermark: int) -> None:
        """Takes back what was saved of the rows."""
        if self.kind.whole:
            for frame in state.get(self.rows.name, ()):
                names = [n for n in frame.columns if n not in RESERVED and n not in LABELS]
                self._columns += [name for name in names if name not in self._columns]
            self.rows.identity = self._columns
        self.rows.restore(state, after=EARLIEST - 1 if self.ttl is None else watermark - self.ttl - 1)
