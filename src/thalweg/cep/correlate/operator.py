"""`Correlate`: a correlation inside a running job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.cep.correlate.arrivals import arrivals_of
from thalweg.cep.correlate.correlator import Count, EventCorrelator
from thalweg.cep.correlate.held import Held, Terms
from thalweg.cep.correlate.results import correlation_rows
from thalweg.cep.ordered import EventOrder, grouped
from thalweg.cep.pattern import AfterMatch
from thalweg.records import Int64s
from thalweg.streams.batch import KEY_GROUP, RESERVED, TIMESTAMP, Batch, Watermark
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.state.key_groups import warm_up as warm_up_key_groups

_EVENTS, _CONSUMED, _NUMBER = "events@", "consumed@", "__number"


class Correlate(Operator):
    """Holds the events of each key for the length of the window, and puts out a row for each correlation.

    State: waiting events (see `EventOrder`), a frame of new events per commit and stream, and of each commit the keys
    whose events were consumed; each is dropped when the window has passed it. Events without a key are filtered.
    """

    def __init__(
        self,
        operator_id: str,
        correlator: EventCorrelator,
        keys: Sequence[Sequence[str]],
        topics: Sequence[str] = (),
        schemas: Sequence[pl.Schema | None] = (),
    ) -> None:
        super().__init__(operator_id)
        self.correlator = correlator
        self.keys = [list(columns) for columns in keys]
        self.names = key_names(keys)
        self.topics = topics
        self.order = EventOrder(self.keys)
        self.held = Held(terms_of(correlator), self.names)
        known = list(schemas) or [None] * len(keys)
        self._columns: list[dict[str, pl.DataType]] = [dict(schema or {}) for schema in known]
        self._next = self._saved = 0
        """The number of the next event, and of the first that is not saved."""
        self._snapshots = 0
        self._frames: dict[str, int] = {}
        """Saved frames, and until when they matter: the time of their last event, plus the window."""

    def warm_up(self) -> None:
        warm_up_key_groups()
        held = Held(self.held.terms, ["k"])
        rows = pl.DataFrame({TIMESTAMP: [0], "k": [0]})
        arrivals = arrivals_of(
            self.correlator, [rows] * len(self.keys), [["k"]] * len(self.keys), held.stores, ["k"], 0
        )
        held.advance(arrivals, 1)
        held.tidy()

    # -- events

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        self._columns[port].update({n: t for n, t in frame.schema.items() if n not in RESERVED})
        frame, late = self.order.in_time(frame)
        if late is not None:
            self.account.late += len(late)
            yield late
        keyed = frame.drop_nulls(self.keys[port]) if self.keys[port] else frame
        self.account.filtered += frame.height - keyed.height
        self.account.absorbed += keyed.height
        self.order.add(keyed, port)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if watermark.event_time <= self.order.released:
            return
        inputs = self.order.release(watermark.event_time)
        arrivals = arrivals_of(self.correlator, inputs, self.keys, self.held.stores, self.names, self._next)
        self._next += len(arrivals.times) if arrivals is not None else 0
        # Nothing before the watermark comes any more: an event a window before it can't matter.
        found = self.held.advance(arrivals, watermark.event_time)
        if len(found.sizes):
            yield Batch(correlation_rows(self.correlator, found, self.held.stores, self.topics, self._columns))
        self.held.tidy()

    # -- state

    def snapshot(self, *, full: bool = False) -> StateDelta:
        delta = self.order.snapshot(full=full)
        self._snapshots += 1
        puts = list(delta.puts)
        consumed = self.held.take_consumed()
        # A full one may be written beside the deltas, which go on: the names that they gave stay known.
        if consumed is not None and not full:
            keys, numbers = consumed
            rows = keys.with_columns(pl.Series(_NUMBER, numbers))
            puts.append(self._saved_frame(_CONSUMED, rows, self.names, self.order.released))
        for stream, rows, numbers in self.held.held_since(0 if full else self._saved):
            rows = rows.with_columns(pl.Series(_NUMBER, numbers))
            last = int(rows.get_column(TIMESTAMP).max())  # type: ignore[arg-type]
            puts.append(self._saved_frame(f"{_EVENTS}{stream}@", rows, self.keys[stream], last))
        self._saved = self._next
        drops = [*delta.drops, *self._outdated()]
        return StateDelta(drops=drops, puts=puts, full=full)

    def _saved_frame(self, prefix: str, rows: pl.DataFrame, keys: Sequence[str], last: int) -> tuple[str, pl.DataFrame]:
        name = f"{prefix}{self._snapshots}"
        self._frames[name] = last + self.correlator.window
        return name, grouped(rows, keys)

    def _outdated(self) -> list[str]:
        over = [name for name, until in self._frames.items() if until <= self.order.released]
        for name in over:
            del self._frames[name]
        return over

    def restore(self, state: State) -> None:
        self.order.restore(state)
        consumed = [frame for name, frames in state.items() if name.startswith(_CONSUMED) for frame in frames]
        upto = _upto(consumed, self.names)
        inputs: list[pl.DataFrame | None] = []
        numbers: list[Int64s] = []
        for stream, columns in enumerate(self.keys):
            prefix = f"{_EVENTS}{stream}@"
            frames = [frame for name, parts in state.items() if name.startswith(prefix) for frame in parts]
            rows = self._live(frames, columns, upto)
            numbers.append(np.zeros(0, np.int64) if rows is None else rows.get_column(_NUMBER).to_numpy())
            inputs.append(None if rows is None else rows.drop(_NUMBER))
            if rows is not None:
                known = {n: t for n, t in rows.schema.items() if n not in RESERVED and n != _NUMBER}
                self._columns[stream].update(known)
        for name, parts in state.items():
            if name.startswith((_EVENTS, _CONSUMED)):
                self._note(name, parts)
        arrivals = arrivals_of(self.correlator, inputs, self.keys, self.held.stores, self.names, 0, numbers)
        if arrivals is not None:
            self.held.restore(arrivals)
        self._saved = self._next

    def _note(self, name: str, frames: Sequence[pl.DataFrame]) -> None:
        """Takes a saved frame's name up again: until when it matters, and the numbers that are taken."""
        self._snapshots = max(self._snapshots, int(name.rsplit("@", 1)[1]))
        last = self.order.released
        for frame in frames:
            if frame.height:
                self._next = max(self._next, int(frame.get_column(_NUMBER).max()) + 1)  # type: ignore[arg-type]
                if TIMESTAMP in frame.columns:
                    last = max(last, int(frame.get_column(TIMESTAMP).max()))  # type: ignore[arg-type]
        self._frames[name] = last + self.correlator.window

    def _live(
        self, frames: Sequence[pl.DataFrame], columns: Sequence[str], upto: pl.DataFrame | None
    ) -> pl.DataFrame | None:
        """The saved events of a stream that are in the window and not consumed."""
        if not frames:
            return None
        rows = pl.concat(frames, how="diagonal_relaxed").drop(KEY_GROUP)
        rows = rows.filter(pl.col(TIMESTAMP) > self.order.released - self.correlator.window)
        if upto is not None:
            if columns:
                rows = rows.join(
                    upto,
                    left_on=list(columns),
                    right_on=self.names,
                    how="left",
                    maintain_order="left",
                    nulls_equal=True,
                )
            else:
                rows = rows.join(upto, how="cross")
            rows = rows.filter((pl.col(_NUMBER) > pl.col("__upto")).fill_null(True)).drop("__upto")
        return rows.sort(TIMESTAMP, _NUMBER) if rows.height else None


def _upto(consumed: Sequence[pl.DataFrame], names: Sequence[str]) -> pl.DataFrame | None:
    """Per key the number of the last event that was consumed."""
    if not consumed:
        return None
    rows = pl.concat(consumed, how="diagonal_relaxed")
    last = pl.col(_NUMBER).max().alias("__upto")
    return rows.group_by(list(names)).agg(last) if names else rows.select(last)


def key_names(keys: Sequence[Sequence[str]]) -> list[str]:
    """What the key columns are called in results: as in the first stream."""
    return list(keys[0]) if keys else []


def terms_of(correlator: EventCorrelator) -> Terms:
    """The definition in numbers."""
    kinds = {Count.STREAMS: 0, Count.EVENTS: 1, Count.VALUES: 2}
    return Terms(
        correlator.window,
        kinds[correlator.count],
        correlator.ordered,
        correlator.minimum,
        correlator.after_match is AfterMatch.PAST_LAST,
        correlator.max_events,
        len(correlator.streams),
    )
