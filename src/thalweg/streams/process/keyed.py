"""What both kinds of keyed functions share: the state's columns, its timers, and how results become rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thalweg.streams.batch import MIN_TIME, WATERMARK, Batch, Watermark
from thalweg.streams.engine.outputs import topics_of
from thalweg.streams.operator import Memory, Operator, OperatorContext, State, StateDelta
from thalweg.streams.process.declared import ListState, MapState, ValueState
from thalweg.streams.process.declared import State as Declared
from thalweg.streams.process.handles import Now
from thalweg.streams.process.timers import COLLECTION, TIMERS, Timers
from thalweg.streams.state.key_groups import warm_up as warm_up_groups
from thalweg.streams.state.key_index import warm_up
from thalweg.streams.state.keyed_store import ROW_WRITTEN, VALUE, WRITTEN, Collection, KeyedStore, Slots
from thalweg.streams.state.pool import current_pool
from thalweg.streams.state.row_store import SLOT

if TYPE_CHECKING:
    from thalweg.streams.process.node import ProcessNode


class KeyedOperator(Operator):
    """The base of the operators of `process` and `process_batches`."""

    def __init__(self, operator_id: str, node: ProcessNode, keys: Sequence[str], context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.node = node
        self.keys = list(keys)
        self.topics = topics_of(context)
        self.now = Now()
        self.closed = MIN_TIME
        """How far the watermark was told."""
        default = current_pool().ttl
        self.ttls = {name: state.ttl or default for name, state in node.states.items()}
        self.store = KeyedStore(
            self.keys,
            {name: s.dtype for name, s in node.states.items() if isinstance(s, ValueState)},
            [*self._collections(node.states), COLLECTION],
            {n: ttl for n, s in node.states.items() if isinstance(s, ValueState) and (ttl := self.ttls[n]) is not None},
            where=f"state of {operator_id!r}",
        )
        self.timers = Timers(self.now)
        self.timers.store = self.store

    def _collections(self, states: Mapping[str, Declared]) -> Iterator[Collection]:
        for name, state in states.items():
            if isinstance(state, ListState):
                yield Collection(name, {"value": state.dtype}, self.ttls[name])
            elif isinstance(state, MapState):
                yield Collection(name, {"key": state.key_dtype, "value": state.dtype}, self.ttls[name])

    def warm_up(self) -> None:
        warm_up()
        warm_up_groups()

    def watermarks(self, frame: pl.DataFrame) -> pl.Series:
        """The watermark that each row is judged by: its own, or the operator's where an idle input let it run ahead."""
        if WATERMARK not in frame.columns:
            return pl.Series(WATERMARK, np.full(frame.height, self.closed))
        return frame[WATERMARK].clip(lower_bound=self.closed)

    def on_watermark(self, watermark: Watermark) -> Iterable[Batch]:
        self.clock = max(self.clock, watermark.clock)
        moved = watermark.event_time > self.closed
        self.closed = max(self.closed, watermark.event_time)
        if moved:
            yield from self._fire_due(self.closed, processing=False)
        yield from self._fire_due(watermark.clock, processing=True)
        if moved:
            self.store.expire(self.closed)

    def _fire_due(self, until: int, *, processing: bool) -> Iterable[Batch]:
        due = self.timers.queue(processing=processing).due(until)
        return self.fire(due, until, processing=processing) if len(due) else ()

    @abstractmethod
    def fire(self, slots: Slots, until: int, *, processing: bool) -> Iterable[Batch]:
        """Calls the function with the timers of these keys up to a time."""

    def put_timers(self, slots: Slots) -> None:
        """Writes the timers of keys back after a batch."""
        if len(slots):
            rows = self.timers.rows(slots.tolist())
            self.store.write_rows(TIMERS, slots, rows)
            self.timers.schedule(rows, slots)

    # -- state

    def snapshot(self, *, full: bool = False) -> StateDelta:
        return self.store.snapshot(full=full)

    def restore(self, state: State) -> None:
        self.store.restore(state)
        slots = self.store.index.alive()
        if len(slots):
            self.timers.schedule(self.store.read_rows(TIMERS, slots), slots)

    def memory(self) -> Memory:
        return self.store.memory()

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """The key columns and every state by name: lists as lists, maps as lists of key and value."""
        slots = self.store.index.alive() if keys is None else np.unique(self.store.find(self._typed(keys)))
        if not len(slots):
            return pl.DataFrame(schema=dict.fromkeys([*self.keys, *self.node.states], pl.Null()))
        found = self.store.names(slots)
        values = self._alive(self.store.read(slots), {n: (VALUE + n, WRITTEN + n) for n in self.store.ttls})
        names = [name for name, state in self.node.states.items() if isinstance(state, ValueState)]
        values = values.select(SLOT, *(pl.col(VALUE + name).alias(name) for name in names))
        found = found.join(values, on=SLOT, how="left", maintain_order="left")
        for name, collection in self.store.collections.items():
            if name != TIMERS:
                rows = self.store.read_rows(name, slots)
                if collection.ttl is not None:
                    rows = rows.filter(pl.col(ROW_WRITTEN) + collection.ttl > self.closed)
                item = pl.col("value") if len(collection.columns) == 1 else pl.struct("key", "value")
                lists = rows.group_by(SLOT, maintain_order=True).agg(item.alias(name))
                found = found.join(lists, on=SLOT, how="left", maintain_order="left")
        return found.select(*self.keys, *self.node.states)

    def _typed(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Keys with the types that the key columns have here: they are found by a hash of their bytes."""
        types = self.store.names(self.store.index.alive()[:1]).schema
        return keys.cast({name: types[name] for name in keys.columns if name in types}, strict=False)

    def _alive(self, values: pl.DataFrame, columns: Mapping[str, tuple[str, str]]) -> pl.DataFrame:
        return values.with_columns(
            pl.when(pl.col(written) + self.store.ttls[name] <= self.closed)
            .then(None)
            .otherwise(pl.col(value))
            .alias(value)
            for name, (value, written) in columns.items()
        )
