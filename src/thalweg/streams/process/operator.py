"""`process`: a function for every event and timer, with state of its key.

State: columns by key (`KeyedStore`). Cost per event: one call of the function, one probe of the index, and a share of
reading and writing the keys that the batch touches; per timer the same. Nothing depends on how many keys there are.

Timers come before the first event of their key whose own watermark has reached them, and at the latest when the
operator's watermark has; so what a function sees does not depend on how events were cut into batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thalweg.expressions import iter_rows
from thalweg.streams.batch import DEAD, MAIN, TIMESTAMP, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.operator import OperatorContext
from thalweg.streams.process.context import Context
from thalweg.streams.process.declared import ListState, MapState, ProcessFunction, ValueState
from thalweg.streams.process.handles import CollectionHandle, Entries, Handle, Items, Value
from thalweg.streams.process.keyed import KeyedOperator
from thalweg.streams.process.results import NO_ROW, Emitted, Results, records_of
from thalweg.streams.process.timers import Order, Timer
from thalweg.streams.state.keyed_store import Slots
from thalweg.streams.state.row_store import SLOT

if TYPE_CHECKING:
    from thalweg.streams.process.node import ProcessNode


class Process(KeyedOperator):
    """Runs the function row by row."""

    def __init__(self, operator_id: str, node: ProcessNode, keys: Iterable[str], context: OperatorContext) -> None:
        super().__init__(operator_id, node, list(keys), context)
        self.handles: dict[str, Handle] = {name: self._handle(name) for name in node.states}
        self._values = [handle for handle in self.handles.values() if isinstance(handle, Value)]
        self._held_collections = [handle for handle in self.handles.values() if isinstance(handle, CollectionHandle)]
        self._results = Results(self.keys, node.schemas)
        self._emitted: list[Emitted] = []
        self._errors: list[RowError] = []
        self._letters: list[pl.DataFrame] = []
        self._row = NO_ROW
        self._time: int | None = None
        self._key: dict[str, Any] = {}
        self._touched: Slots = np.zeros(0, dtype=np.int64)
        self.context = Context(self.handles, self.timers, self._emit)
        self._on_event, self._on_timer = self._functions(node.function)

    def _handle(self, name: str) -> Handle:
        state, ttl = self.node.states[name], self.ttls[name]
        if isinstance(state, ValueState):
            return Value(name, state.dtype, state.default, ttl, self.now)
        collection: CollectionHandle
        if isinstance(state, ListState):
            collection = Items(name, state.dtype, ttl, self.now)
        else:
            assert isinstance(state, MapState)
            collection = Entries(name, state.key_dtype, state.dtype, ttl, self.now)
        collection.store = self.store
        return collection

    def _functions(self, function: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        if not isinstance(function, ProcessFunction):
            return function, _no_timer
        own = copy.copy(function)
        vars(own).update(self.handles)  # instead of the declarations of its class
        self.function: ProcessFunction | None = own
        return own.on_event, own.on_timer

    function: ProcessFunction | None = None

    def warm_up(self) -> None:
        super().warm_up()
        if self.function is not None:
            self.function.open()

    def close(self) -> None:
        if self.function is not None:
            self.function.close()

    # -- events

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if not frame.height:
            return
        self._results.know_keys(frame)
        slots = self.store.slots(frame)
        self._begin(np.unique(slots))
        stamps = frame[TIMESTAMP].to_list()
        marks = self.watermarks(frame).to_list()
        rows = iter_rows(frame, self.keys)
        for number, (row, slot, stamp, mark) in enumerate(zip(rows, slots.tolist(), stamps, marks, strict=True)):
            self._key = {name: row[name] for name in self.keys}
            self._row = number
            if self.timers.first[slot] <= mark:
                self._fire_key(slot, mark)
            self._time = None
            self._place(slot, stamp, mark)
            self._guard(self._on_event, row, number)
        self._write_back()
        yield from self._out(frame)

    def _place(self, slot: int, stamp: int, mark: int) -> None:
        """Tells state and function which key is at hand, and what time it is."""
        self.now.slot, self.now.watermark, self.now.written = slot, mark, max(stamp, mark)
        context = self.context
        values = tuple(self._key.values())
        context.key = values[0] if len(values) == 1 else (values or None)
        context.timestamp, context.watermark, context.clock = stamp, mark, self.clock

    def _guard(self, function: Callable[..., Any], subject: Any, row: int) -> None:
        """Calls the function; where it raises, nothing of the call remains but the error."""
        mark = len(self._emitted)
        undo = self.now.undo = []
        try:
            for record in records_of(function(subject, self.context)):
                self._emit(MAIN, record)
        except Exception as error:
            for back, *arguments in reversed(undo):
                back(*arguments)
            del self._emitted[mark:]
            if self.node.on_error == "stop":
                raise
            self._failed(row_error(row, error), subject)

    def _failed(self, error: RowError, subject: Any) -> None:
        if isinstance(subject, Timer):
            self._letter({**self._key, "timer": subject.time, "timer_name": subject.name}, error)
        else:
            self._errors.append(error)

    def _letter(self, facts: dict[str, Any], error: RowError) -> None:
        """A dead letter of something that is no event: a timer, or what it gave."""
        rows = pl.DataFrame([facts], strict=False)
        self._letters.append(dead_letters(rows, [(0, *error[1:])], self.id, self.topics))

    def _emit(self, port: str, record: Any) -> None:
        (made,) = records_of([record])
        self._emitted.append(Emitted(port, {**made, **self._key}, self._row, self._time))

    # -- timers

    def _fire_key(self, slot: int, until: int) -> None:
        """Fires the timers of one key that are due before an event of it."""
        while (timer := self.timers.pop(slot, until, processing=False)) is not None:
            self._ring(slot, timer)

    def _ring(self, slot: int, timer: Timer) -> None:
        event_time = timer.time if not timer.processing else max(self.closed, 0)
        self._time = timer.time
        self._place(slot, event_time, event_time)
        self.context._fires = timer.time
        self._guard(self._on_timer, timer, NO_ROW)
        self.context._fires = None

    def fire(self, slots: Slots, until: int, *, processing: bool) -> Iterator[Batch]:
        self._begin(slots)
        names = self.store.names(slots)
        self._results.know_keys(names)
        keys = dict(zip(names[SLOT].to_list(), names.select(self.keys).to_dicts() or [{}] * len(slots), strict=True))
        order = Order(self.timers, slots.tolist(), until, processing=processing)
        self._row = NO_ROW
        while (due := order.next()) is not None:
            slot, timer = due
            self._key = keys[slot]
            self._ring(slot, timer)
            order.again(slot)
        self.timers.dirty.update(slots.tolist())  # their places in the queue have to be set anew
        self._write_back()
        yield from self._out(None)

    # -- batches

    def _begin(self, touched: Slots) -> None:
        self._touched = touched
        self._emitted, self._errors, self._letters = [], [], []
        for handle in (*self.handles.values(), self.timers):
            handle.begin(touched)
        if self._values:
            values = self.store.read(touched)
            for value in self._values:
                value.fill(values)

    def _write_back(self) -> None:
        dirty = sorted(set().union(*(value.dirty for value in self._values)))
        if dirty:
            columns = [column for value in self._values for column in value.columns(dirty)]
            self.store.write(pl.DataFrame([*columns, pl.Series(SLOT, dirty, dtype=pl.Int64)]))
        for collection in self._held_collections:
            if collection.dirty:
                slots = _array(collection.dirty)
                self.store.write_rows(collection.name, slots, collection.rows(slots.tolist()))
        self.put_timers(_array(self.timers.dirty))
        self.store.prune(self._touched)

    def _out(self, frame: pl.DataFrame | None) -> Iterator[Batch]:
        batches, misfits = self._results.frames(self._emitted, frame, self.clock)
        yield from batches
        errors = {error[0]: error for error in self._errors}
        for item, error in misfits:
            if item.time is None:
                errors[item.row] = (item.row, *error[1:])
            else:
                self._letter({**item.record, "timer": item.time}, error)
        if frame is not None:
            self.account.dead += len(errors)
            self.account.absorbed += frame.height - len(errors)
            if errors:
                yield Batch(dead_letters(frame, list(errors.values()), self.id, self.topics), DEAD)
        for letters in self._letters:
            yield Batch(letters, DEAD)


def _array(slots: Iterable[int]) -> Slots:
    return np.array(sorted(slots), dtype=np.int64)


def _no_timer(timer: Timer, ctx: Context) -> None:
    raise NotImplementedError("a function that sets timers needs a class: ProcessFunction with on_timer(timer, ctx)")
