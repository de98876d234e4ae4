"""Aggregates of rows that change: when a row is updated or deleted, what it had added is taken out again.

State: the current rows by group in a keyed columnar index, and per group its partial and its last result. Counts, sums
and averages cost a step per change, whatever the size of the group; so do minimum and maximum until the extreme itself
is taken back, when the group is read again. Other aggregates read the groups that a batch touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.aggregate import AggregatePlan, warm_up
from thalweg.streams.aggregate.parts import Extreme, NonNull, Rows, Sum
from thalweg.streams.batch import CHANGE, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE, INSERT, UPDATE, Changes, Changing, ChangingRows
from thalweg.streams.engine.join_base import TimedOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.querying import matching
from thalweg.streams.state.key_index import KeyIndex
from thalweg.streams.state.key_index import warm_up as warm_up_keys
from thalweg.streams.state.keyed_rows import warm_up as warm_up_rows
from thalweg.streams.state.row_lists import Int64s, keys_of
from thalweg.streams.state.row_store import SLOT, RowStore


class ChangingAggregate(TimedOperator):
    """Gives the result of every group that a batch has changed: insert, update, or delete where it has no rows left."""

    def __init__(self, operator_id: str, keys: Sequence[str], plan: AggregatePlan, kind: Changing) -> None:
        super().__init__(operator_id)
        self.group = list(keys)
        self.plan = plan
        self.rows = ChangingRows("rows", keys, kind, nulls_equal=True)
        self.index = KeyIndex()
        self._partials, self._results = RowStore(), RowStore()
        parts = plan.tables[0].parts
        known = all(isinstance(part, Rows | NonNull | Sum | Extreme) for part in parts)
        self._incremental = known and len(plan.tables) == 1
        self._extremes = [part for part in parts if isinstance(part, Extreme)]

    def warm_up(self) -> None:
        for warm in (warm_up, warm_up_keys, warm_up_rows):
            warm()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        if not batch:
            return
        changes = self.rows.changes(self.kept(batch.frame))
        self.rows.apply(changes)
        if changes.old.height or changes.new.height:
            yield from self._results_of(changes)

    def _results_of(self, changes: Changes) -> Iterator[Batch]:
        old, new = self._placed(changes.old), self._placed(changes.new)
        both = pl.concat([old.select(*self.group, SLOT, TIMESTAMP), new.select(*self.group, SLOT, TIMESTAMP)])
        groups = both.group_by(SLOT).agg(pl.col(self.group).first(), pl.col(TIMESTAMP).max()).sort(SLOT)
        alive = self.rows.rows.has(keys_of(groups, self.group, nulls_equal=True))
        living = groups.filter(pl.Series(alive))
        results = self._compute(living, old, new)
        ops = self._compare(groups, results)
        gone = groups.filter(pl.Series(~alive))[SLOT].to_numpy()
        self._forget(gone)
        if ops.height:
            columns = [*self.group, *self.plan.aggregates, CHANGE, TIMESTAMP, pl.col(TIMESTAMP).alias(WATERMARK)]
            yield self.result(ops.select(columns))

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows with the slot of their group."""
        slots, _ = self.index.assign(rows.select(self.group), rows.height)
        for store in (self._partials, self._results):
            store.reserve(self.index.capacity)
        return rows.with_columns(pl.Series(SLOT, slots))

    def _compute(self, living: pl.DataFrame, old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame | None:
        """The results of groups that have rows, with their slot."""
        if not living.height:
            return None
        if not self._incremental:
            return self.plan.finish(self._read_again(living), [SLOT])
        partials, stale = self._step(living, old, new)
        if stale.height:
            again = self._read_again(stale)[0]
            assert again is not None
            partials = pl.concat([partials.join(stale, on=SLOT, how="anti"), again], how="diagonal_relaxed")
        self._partials.write(partials)
        return self.plan.finish([partials], [SLOT])

    def _step(self, living: pl.DataFrame, old: pl.DataFrame, new: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The partials after the change, and the groups whose extreme may have gone with it."""
        table = self.plan.tables[0]
        held = self._partials.read(living[SLOT].to_numpy())
        parts = [] if held is None else [held]
        if new.height:
            parts += self.plan.prepare(new, [SLOT])
        stale = living.clear()
        if old.height:
            taken = self.plan.prepare(old, [SLOT])[0]
            stale = living.join(self._stale(held, taken), on=SLOT, how="semi")
            parts.append(self._negated(taken))
        merged = self.plan.merge(table, parts, [SLOT])
        return merged.join(living, on=SLOT, how="semi"), stale

    def _negated(self, taken: pl.DataFrame) -> pl.DataFrame:
        """What was added by these rows, to be added with the other sign."""
        extremes = [part.name for part in self._extremes]
        return taken.drop(extremes).with_columns(-pl.exclude(SLOT))

    def _stale(self, held: pl.DataFrame | None, taken: pl.DataFrame) -> pl.DataFrame:
        names = [part.name for part in self._extremes]
        if held is None or not names:
            return taken.select(SLOT).clear()
        pairs = taken.select(SLOT, *names).join(held.select(SLOT, *names), on=SLOT, suffix="_held")
        return pairs.filter(pl.any_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_held")) for n in names)).select(SLOT)

    def _read_again(self, groups: pl.DataFrame) -> list[pl.DataFrame | None]:
        """Partial rows of all rows of these groups, per table."""
        keys = keys_of(groups, self.group, nulls_equal=True)
        places = groups[SLOT].to_numpy()
        pieces: list[list[pl.DataFrame]] = [[] for _ in self.plan.tables]
        for probes, slots in self.rows.rows.find(keys):
            rows = self.rows.rows.read(slots).with_columns(pl.Series(SLOT, places[probes]))
            for piece, rows_of_table in zip(pieces, self.plan.prepare(rows, [SLOT]), strict=True):
                piece.append(rows_of_table)
        merged: list[pl.DataFrame | None] = []
        for table, frames in zip(self.plan.tables, pieces, strict=True):
            merged.append(self.plan.merge(table, frames, [SLOT]) if frames else None)
        return merged

    def _compare(self, groups: pl.DataFrame, results: pl.DataFrame | None) -> pl.DataFrame:
        """What has changed against the last results, with `__op`; takes note of it."""
        names = list(self.plan.aggregates)
        before = self._results.read(groups[SLOT].to_numpy())
        if before is None:
            assert results is not None, "a group without a result before has rows now"
            self._results.write(results)
            return results.join(groups, on=SLOT).with_columns(pl.lit(INSERT).alias(CHANGE))
        both = groups.join(
            before.rename({n: f"__old_{n}" for n in names}).with_columns(__was=True), on=SLOT, how="left"
        )
        if results is None:
            gone = both.filter(pl.col("__was"))
            return gone.rename({f"__old_{n}": n for n in names}).with_columns(pl.lit(DELETE).alias(CHANGE))
        both = both.join(results.with_columns(__is=True), on=SLOT, how="left")
        was, now = pl.col("__was").fill_null(False), pl.col("__is").fill_null(False)
        same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"__old_{n}")) for n in names)
        op = pl.when(was & now).then(pl.lit(UPDATE)).when(now).then(pl.lit(INSERT)).otherwise(pl.lit(DELETE))
        changed = both.with_columns(op.alias(CHANGE)).filter((was | now) & ~(was & now & same))
        self._results.write(changed.filter(now).select(SLOT, *names))
        last = [pl.when(now).then(pl.col(n)).otherwise(pl.col(f"__old_{n}")).alias(n) for n in names]
        return changed.with_columns(last)

    def _forget(self, slots: Int64s) -> None:
        if len(slots):
            for store in (self._partials, self._results):
                store.free(slots)
            self.index.remove(slots)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        self.advance(watermark)
        return iter(())

    @property
    def keys(self) -> list[str]:
        """What results are asked for by."""
        return self.group

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """A row per group with its current results; reads all rows held."""
        held = self.rows.rows.alive()
        if not len(held):
            return pl.DataFrame(schema=dict.fromkeys([*self.group, *self.plan.aggregates], pl.Null()))
        groups = matching(self.rows.rows.read(held).select(self.group).unique(), keys)
        slots = self.index.find(groups, groups.height)
        results = self._results.read(slots)
        if results is None:
            return groups.clear().with_columns(pl.lit(None).alias(name) for name in self.plan.aggregates)
        found = groups.with_columns(pl.Series(SLOT, slots)).join(results, on=SLOT)
        return found.sort(self.group).select(*self.group, *self.plan.aggregates)

    def memory(self) -> Memory:
        return self.rows.rows.memory() + self._partials.memory() + self._results.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        return self.combine(self.rows.rows.snapshot(full=full), forgotten=False, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        self.rows.restore(state, self.closed)
        slots = self.rows.rows.alive()
        for part in np.array_split(slots, len(slots) // _AT_ONCE + 1):
            if len(part):
                self._recompute(self._placed(self.rows.rows.read(part)))

    def _recompute(self, rows: pl.DataFrame) -> None:
        """Adds restored rows to partials; the results follow from these."""
        groups = rows.select(*self.group, SLOT).unique(SLOT)
        if self._incremental:
            parts = self.plan.prepare(rows, [SLOT])
            held = self._partials.read(groups[SLOT].to_numpy())
            partials = self.plan.merge(self.plan.tables[0], [*parts, *([] if held is None else [held])], [SLOT])
            self._partials.write(partials)
            self._results.write(self.plan.finish([partials], [SLOT]))
        else:
            self._results.write(self.plan.finish(self._read_again(groups), [SLOT]))


_AT_ONCE = 1_000_000
