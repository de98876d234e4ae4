"""`process_batches`: a function for every batch, with the state of its keys as columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.batch import DEAD, INGESTED, LATE, MAIN, RESERVED, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.engine.dead_letters import dead_letters, row_error
from thalweg.streams.operator import OperatorContext
from thalweg.streams.process.declared import ListState, MapState, ValueState
from thalweg.streams.process.keyed import KeyedOperator
from thalweg.streams.process.timers import TIMERS
from thalweg.streams.state.keyed_store import ROW_WRITTEN, VALUE, WRITTEN, Slots
from thalweg.streams.state.row_store import SLOT

if TYPE_CHECKING:
    from thalweg.streams.process.node import ProcessNode

Frames = pl.DataFrame | Mapping[str, pl.DataFrame] | None
"""What a function may give: rows for the main output, frames by port, or nothing."""
_AT = "__at"


class BatchFunction(ABC):
    """A keyed function over frames. State as class attributes, which `ctx` reads and writes as columns."""

    @abstractmethod
    def on_batch(self, frame: pl.DataFrame, ctx: BatchContext) -> Frames:
        """Takes a batch: the event's columns and `__ts` (Int64, ms UTC), rows of any number of keys."""

    def on_timers(self, timers: pl.DataFrame, ctx: BatchContext) -> Frames:
        """Takes timers that have come due: the key columns, `time` (ms UTC) and `name`, in order of time."""
        raise NotImplementedError(f"{type(self).__name__} sets timers, but has no on_timers(timers, ctx)")


class BatchContext:
    """The state of the keys of one batch. What is set takes effect when the function has returned."""

    def __init__(self, operator: ProcessBatches, slots: Slots, times: pl.DataFrame) -> None:
        self._operator = operator
        self._slots = slots
        self._times = times
        self._values: list[pl.DataFrame] = []
        self._rows: dict[str, pl.DataFrame] = {}
        self._timers: list[pl.DataFrame] = []
        self.watermark = operator.closed
        """No event is expected before this, ms UTC."""
        self.clock = operator.clock
        """The job's clock, ms UTC."""
        self._names = operator.store.names(slots)

    @property
    def keys(self) -> pl.DataFrame:
        """The keys of the batch, each once."""
        return self._names.select(self._operator.keys)

    def values(self) -> pl.DataFrame:
        """The keys and their values, one row per key; a value's default (or null) where there is none."""
        return self._operator.values_of(self._names).drop(SLOT)

    def set_values(self, frame: pl.DataFrame) -> None:
        """Sets values: key columns, and any of the declared ones; null clears. Keys that are not in it keep theirs.

        Raises:
            ConfigurationError: a key that the batch does not have, a key twice, no such value, a type that is not that
                of the declaration.
        """
        self._values.append(self._operator.checked_values(self._slotted(frame)))

    def rows(self, name: str) -> pl.DataFrame:
        """A list (`value`) or map (`key`, `value`) of all keys of the batch, as rows with the key columns."""
        return self._operator.rows_of(name, self._names).drop(SLOT)

    def set_rows(self, name: str, frame: pl.DataFrame) -> None:
        """Replaces the list or map of all keys of the batch, as rows with the key columns.

        Raises:
            ConfigurationError: as in `set_values`.
        """
        self._rows[name] = self._operator.checked_rows(name, self._slotted(frame))

    def set_timers(self, frame: pl.DataFrame) -> None:
        """Sets event-time timers: key columns, `time` (ms UTC) and, where there are several, `name`."""
        self._timers.append(self._operator.checked_timers(self._slotted(frame)))

    def _slotted(self, frame: pl.DataFrame) -> pl.DataFrame:
        keys = self._operator.keys
        if not keys:
            return frame.with_columns(pl.lit(int(self._slots[0]), pl.Int64).alias(SLOT))
        missing = [name for name in keys if name not in frame.columns]
        if missing:
            raise ConfigurationError(
                f"state needs the key column {missing[0]!r}; there are: {', '.join(frame.columns)}"
            )
        slotted = frame.join(self._names, on=keys, how="left", nulls_equal=True, maintain_order="left")
        if slotted[SLOT].null_count():
            raise ConfigurationError("state was set for a key that the batch does not have")
        return slotted

    def apply(self) -> None:
        """Writes what was set."""
        operator, store = self._operator, self._operator.store
        if self._values:
            current = operator.raw_values(self._names)
            for change in self._values:
                stamped = operator.stamped(change, self._times)
                current = current.update(stamped, on=SLOT, include_nulls=True)
            store.write(current)
        for name, rows in self._rows.items():
            if store.collections[name].ttl is not None:
                rows = rows.join(self._times, on=SLOT, maintain_order="left").rename({_AT: ROW_WRITTEN})
            store.write_rows(name, self._slots, rows.select(*store.collections[name].schema, SLOT))
        if self._timers:
            held = store.read_rows(TIMERS, self._slots)
            rows = pl.concat([held, *(frame.select(held.columns) for frame in self._timers)]).unique()
            operator.write_timers(self._slots, rows)


class ProcessBatches(KeyedOperator):
    """Runs the function frame by frame."""

    def __init__(self, operator_id: str, node: ProcessNode, keys: Iterable[str], context: OperatorContext) -> None:
        super().__init__(operator_id, node, list(keys), context)
        self.function = node.function

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if not frame.height:
            return
        slots = self.store.slots(frame)
        touched = np.unique(slots)
        self.timers.begin(touched)
        marks = frame.select(pl.Series(SLOT, slots), pl.max_horizontal(TIMESTAMP, pl.lit(self.closed)).alias(_AT))
        context = BatchContext(self, touched, marks.group_by(SLOT).agg(pl.col(_AT).max()))
        call = getattr(self.function, "on_batch", self.function)
        visible = frame.drop([name for name in frame.columns if name in RESERVED and name != TIMESTAMP])
        try:
            results = self._results(call(visible, context), frame)
            context.apply()
        except Exception as error:
            self.store.prune(touched)
            if self.node.on_error == "stop":
                raise
            self.account.dead += frame.height
            errors = [row_error(row, error) for row in range(frame.height)]
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)
            return
        self.account.absorbed += frame.height
        self.store.prune(touched)
        yield from results

    def fire(self, slots: Slots, until: int, *, processing: bool) -> Iterator[Batch]:
        self.timers.begin(slots)
        rows = self.store.read_rows(TIMERS, slots)
        over = (pl.col("time") <= until) & (pl.col("processing") == processing)
        due = rows.filter(over).sort("time", "name")
        self.write_timers(slots, rows.filter(~over))
        names = self.store.names(slots)
        shown = due.join(names, on=SLOT, maintain_order="left").select(*self.keys, "time", "name")
        context = BatchContext(self, slots, due.group_by(SLOT).agg(pl.col("time").max().alias(_AT)))
        call = getattr(self.function, "on_timers", _no_timers)
        try:
            results = self._results(call(shown, context), shown.select(pl.col("time").alias(TIMESTAMP)))
            context.apply()
        except Exception as error:
            if self.node.on_error == "stop":
                raise
            errors = [row_error(row, error) for row in range(shown.height)]
            results = [Batch(dead_letters(shown, errors, self.id, self.topics), DEAD)]
        self.store.prune(slots)
        yield from results
        if (self.timers.event.at[slots] <= until).any() and not processing:
            yield from self._fire_due(until, processing=False)

    def _results(self, given: Frames, source: pl.DataFrame) -> list[Batch]:
        frames = given if isinstance(given, Mapping) else {MAIN: given}
        return [self._result(frame, port, source) for port, frame in frames.items() if frame is not None]

    def _result(self, frame: object, port: str, source: pl.DataFrame) -> Batch:
        if not isinstance(frame, pl.DataFrame):
            raise ConfigurationError(f"process_batches got a {type(frame).__name__}; give a Polars frame, or nothing")
        if port in {DEAD, LATE}:
            raise ConfigurationError(f"port {port!r} is the engine's own; call the side output differently")
        missing = [name for name in self.keys if name not in frame.columns]
        if missing:
            raise ConfigurationError(
                f"process_batches gave no key column {missing[0]!r}: results are keyed as events are"
            )
        if TIMESTAMP not in frame.columns:
            if frame.height != source.height:
                counts = f"{frame.height} rows of {source.height}"
                raise ConfigurationError(f"process_batches gave {counts}, without their time: keep {TIMESTAMP!r}")
            frame = frame.with_columns(source[TIMESTAMP])
        own = [pl.col(TIMESTAMP).cast(pl.Int64), pl.col(TIMESTAMP).cast(pl.Int64).alias(WATERMARK)]
        if frame.height == source.height and WATERMARK in source.columns and frame[TIMESTAMP].equals(source[TIMESTAMP]):
            own = [pl.col(TIMESTAMP), pl.lit(source[WATERMARK])]
        user = frame.drop([name for name in frame.columns if name in RESERVED and name != TIMESTAMP])
        return Batch(user.with_columns(*own, pl.lit(self.clock, pl.Int64).alias(INGESTED)), port)

    # -- called by the context

    def raw_values(self, names: pl.DataFrame) -> pl.DataFrame:
        """The stored columns of all these keys, null where nothing is stored."""
        slots = names.select(SLOT)
        values = slots.join(self.store.read(slots[SLOT].to_numpy()), on=SLOT, how="left", maintain_order="left")
        return self._alive(values, {name: (VALUE + name, WRITTEN + name) for name in self.store.ttls})

    def values_of(self, names: pl.DataFrame) -> pl.DataFrame:
        """The values of keys by their own names, with the key columns and `__slot`."""
        raw = self.raw_values(names)
        columns = []
        for name, state in self.node.states.items():
            if isinstance(state, ValueState):
                value = pl.col(VALUE + name)
                default = None if state.default is None else pl.lit(state.default, state.dtype)
                columns.append((value if default is None else value.fill_null(default)).alias(name))
        return names.join(raw.select(SLOT, *columns), on=SLOT, maintain_order="left").select(
            *self.keys, *(column.meta.output_name() for column in columns), SLOT
        )

    def checked_values(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What `set_values` was given, as stored columns."""
        names = [name for name in frame.columns if name not in (*self.keys, SLOT)]
        for name in names:
            state = self.node.states.get(name)
            if not isinstance(state, ValueState):
                raise ConfigurationError(f"set_values: no value state {name!r} is declared")
        if frame[SLOT].is_duplicated().any():
            raise ConfigurationError("set_values: a key comes twice; give one row per key")
        return frame.select(SLOT, *(self._cast(frame[name], name).alias(VALUE + name) for name in names))

    def _cast(self, series: pl.Series, name: str) -> pl.Series:
        dtype = self.node.states[name].dtype  # type: ignore[attr-defined]
        try:
            return series.cast(dtype, strict=True)
        except pl.exceptions.PolarsError as error:
            raise ConfigurationError(f"state {name!r} is {dtype}: {str(error).splitlines()[0]}") from error

    def stamped(self, change: pl.DataFrame, times: pl.DataFrame) -> pl.DataFrame:
        """Adds when values were written, where they have a time to live."""
        names = [n for n in self.store.ttls if VALUE + n in change.columns]
        if not names:
            return change
        timed = change.join(times, on=SLOT, how="left", maintain_order="left")
        written = [pl.when(pl.col(VALUE + n).is_not_null()).then(pl.col(_AT)).alias(WRITTEN + n) for n in names]
        return timed.with_columns(written).drop(_AT)

    def rows_of(self, name: str, names: pl.DataFrame) -> pl.DataFrame:
        """A collection with the key columns and `__slot`."""
        collection = self._collection(name)
        rows = self.store.read_rows(name, names[SLOT].to_numpy())
        if collection.ttl is not None:
            rows = rows.filter(pl.col(ROW_WRITTEN) + collection.ttl > self.closed).drop(ROW_WRITTEN)
        return rows.join(names, on=SLOT, maintain_order="left").select(*self.keys, *collection.columns, SLOT)

    def checked_rows(self, name: str, frame: pl.DataFrame) -> pl.DataFrame:
        """What `set_rows` was given, as stored columns."""
        collection = self._collection(name)
        for column in collection.columns:
            if column not in frame.columns:
                raise ConfigurationError(f"set_rows({name!r}): no column {column!r}")
        if "key" in collection.columns and frame.select(SLOT, "key").is_duplicated().any():
            raise ConfigurationError(f"set_rows({name!r}): an entry comes twice")
        return frame.select(SLOT, *(pl.col(column).cast(dtype) for column, dtype in collection.columns.items()))

    def _collection(self, name: str) -> Any:
        if not isinstance(self.node.states.get(name), ListState | MapState):
            raise ConfigurationError(f"no list or map state {name!r} is declared")
        return self.store.collections[name]

    def checked_timers(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What `set_timers` was given, as stored columns."""
        if "time" not in frame.columns:
            raise ConfigurationError("set_timers: give the key columns and `time`")
        name = pl.col("name").cast(pl.String) if "name" in frame.columns else pl.lit("")
        return frame.select(SLOT, pl.lit(False).alias("processing"), pl.col("time").cast(pl.Int64), name.alias("name"))

    def write_timers(self, slots: Slots, rows: pl.DataFrame) -> None:
        """Sets all timers of these keys."""
        self.store.write_rows(TIMERS, slots, rows)
        self.timers.schedule(rows, slots)


def _no_timers(timers: pl.DataFrame, ctx: BatchContext) -> Frames:
    raise NotImplementedError("a function that sets timers needs a class: BatchFunction with on_timers(timers, ctx)")
