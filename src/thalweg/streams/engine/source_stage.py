"""The first operator of each source: event time, its watermark, and what is wrong with timestamps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import polars as pl

from thalweg.streams.batch import (
    CHANGE,
    DEAD,
    INGESTED,
    MAX_TIME,
    MIN_TIME,
    PARTITION,
    SOURCE,
    TIMESTAMP,
    WATERMARK,
    Batch,
)
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.engine.record_key import RecordKey
from thalweg.streams.engine.timestamps import LIMIT, to_milliseconds
from thalweg.streams.operator import Operator
from thalweg.streams.watermarks import PartitionWatermarks, warm_up


class SourceStage(Operator):
    """Gives each row its event time (`__ts`) and the watermark of its partition just before it (`__wm`).

    Rows without a required field or a readable timestamp, and rows more than `max_ahead` ms ahead of the job's clock,
    are dead letters: they do not move the watermark. `received` counts rows and what the source could not decode.
    """

    def __init__(
        self,
        operator_id: str,
        *,
        topic: str,
        timestamp: pl.Expr | None,
        unit: str = "ms",
        max_ahead: int | None = None,
        required: Iterable[str] = (),
        source_index: int | None = None,
        tombstones: str = "dead-letter",
    ) -> None:
        super().__init__(operator_id)
        self.topic = topic
        self.unit = unit
        self.max_ahead = max_ahead
        self.required = sorted(required)
        self.source_index = source_index
        self.tombstones = tombstones
        self.watermarks = PartitionWatermarks([0], 0)
        """Set by whoever runs the plan, who knows the partitions."""
        self.rows_carry_watermarks = True
        self.record_key: RecordKey | None = None
        """Set where rows stay in the partition that they come from: it says which are in a wrong one."""
        self._timestamp = timestamp
        self._reads = frozenset(timestamp.meta.root_names()) if timestamp is not None else frozenset()

    def warm_up(self) -> None:
        warm_up()

    def on_dead(self, letters: pl.DataFrame) -> Iterable[Batch]:
        """Books what the source could not decode."""
        self.account.received += letters.height
        self.account.dead += letters.height
        yield Batch(letters, DEAD)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Stamps the rows."""
        frame = batch.frame
        self.account.received += frame.height
        if self.tombstones != "dead-letter":
            frame = self._marked(frame)
        if self.required:
            frame, letters = self._complete(frame)
            if letters is not None:
                yield Batch(letters, DEAD)
        if self.record_key is not None and frame.height:
            wrong = self.record_key.misplaced(frame)
            if wrong.any():
                rows = frame.filter(wrong)
                self.account.dead += rows.height
                yield Batch(dead_letters(rows, self.record_key.errors(rows), self.id, [self.topic]), DEAD)
                frame = frame.filter(~wrong)
        raw = self._raw(frame)
        stamps = raw if self._are_plain(raw) else to_milliseconds(raw, self.unit)
        if CHANGE in frame.columns and self._timestamp is not None:
            frame, raw, stamps = self._deletes_timed(frame, raw, stamps)
        if stamps is not raw or self._newest(stamps) > self._latest():
            good = stamps.is_not_null() & (stamps <= self._latest()).fill_null(False)
            if not good.all():
                bad = (~good).arg_true()
                self.account.dead += bad.len()
                yield Batch(self._letters(frame[bad], raw.gather(bad), stamps.gather(bad)), DEAD)
                frame, stamps = frame.filter(good), stamps.filter(good)
        self.account.passed += frame.height
        if frame.height:
            yield Batch(self._stamped(frame, stamps))

    def _marked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows that say whether they delete their key; without those, where they are passed over."""
        if self.tombstones == "skip":
            if CHANGE not in frame.columns:
                return frame
            kept = frame.filter(pl.col(CHANGE) != "delete").drop(CHANGE)
            self.account.filtered += frame.height - kept.height
            return kept
        # What a test driver sends need not say it.
        return frame if CHANGE in frame.columns else frame.with_columns(pl.lit("insert").alias(CHANGE))

    def _deletes_timed(
        self, frame: pl.DataFrame, raw: pl.Series, stamps: pl.Series
    ) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
        """Deletes have no value to read a time from: theirs is the largest of their partition so far.

        Where there was nothing before one there is nothing to delete, and it is filtered.
        """
        gone = frame.get_column(CHANGE) == "delete"
        if not gone.any():
            return frame, raw, stamps
        before = {p: t if t != MIN_TIME else None for p, t in self.watermarks.committed().items()}
        largest = pl.col(PARTITION).replace_strict(before, default=None, return_dtype=pl.Int64)
        times = pl.when(~pl.col("gone") & (pl.col("t") <= self._latest())).then(pl.col("t"))
        so_far = times.cum_max().forward_fill().over(PARTITION)
        columns = pl.DataFrame({"t": stamps, "gone": gone, PARTITION: frame.get_column(PARTITION)})
        timed = columns.select(pl.when("gone").then(pl.max_horizontal(so_far, largest)).otherwise("t")).to_series()
        kept = ~(gone & timed.is_null())
        self.account.filtered += frame.height - int(kept.sum())
        return frame.filter(kept), raw.filter(kept), timed.filter(kept)

    def _are_plain(self, raw: pl.Series) -> bool:
        """Whether the column is what it has to become: the common case, which costs no query."""
        if raw.dtype != pl.Int64 or self.unit != "ms" or raw.null_count():
            return False
        return not len(raw) or (self._oldest(raw) >= -LIMIT and self._newest(raw) <= LIMIT)

    def _latest(self) -> int:
        return MAX_TIME if self.max_ahead is None else self.clock + self.max_ahead

    @staticmethod
    def _oldest(stamps: pl.Series) -> int:
        return cast(int, stamps.min()) if len(stamps) else MAX_TIME

    @staticmethod
    def _newest(stamps: pl.Series) -> int:
        return cast(int, stamps.max()) if len(stamps) else MIN_TIME

    def _complete(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The rows that have all required fields, and dead letters of the others."""
        absent = [pl.lit(None).alias(name) for name in self.required if name not in frame.columns]
        whole = frame.with_columns(absent) if absent else frame
        if not any(whole[name].null_count() for name in self.required):
            return frame, None
        lacks = pl.any_horizontal(pl.col(self.required).is_null())
        if CHANGE in frame.columns:
            lacks &= pl.col(CHANGE) != "delete"
        missing = whole.select(lacks).to_series()
        rows = whole.filter(missing)
        self.account.dead += rows.height
        errors: list[RowError] = []
        for number, row in enumerate(rows.select(self.required).iter_rows(named=True)):
            names = ", ".join(repr(name) for name, value in row.items() if value is None)
            errors.append((number, "MissingField", f"the event has no {names}", {}))
        return frame.filter(~missing), dead_letters(rows, errors, self.id, [self.topic])

    def _raw(self, frame: pl.DataFrame) -> pl.Series:
        if self._timestamp is None:
            return frame.get_column(TIMESTAMP)
        if not self._reads.issubset(frame.columns):
            return pl.Series("raw", [None], dtype=pl.Int64).new_from_index(0, frame.height)
        if self._timestamp.meta.is_column():
            return frame.get_column(self._timestamp.meta.output_name())
        return frame.select(raw=self._timestamp).get_column("raw")

    def _stamped(self, frame: pl.DataFrame, stamps: pl.Series) -> pl.DataFrame:
        times = stamps.rechunk().to_numpy(writable=True)
        partitions = frame.get_column(PARTITION).rechunk().to_numpy(writable=True)
        own = self.watermarks.assign(times, partitions, self.clock)
        columns = [stamps.alias(TIMESTAMP)]
        if self.rows_carry_watermarks:
            columns.append(pl.Series(WATERMARK, own))
        if self.source_index is not None:
            columns.append(pl.Series(SOURCE, [self.source_index], dtype=pl.Int16).new_from_index(0, frame.height))
        if TIMESTAMP in frame.columns:
            frame = frame.drop(TIMESTAMP)
        return frame.hstack(columns)

    def _letters(self, rows: pl.DataFrame, raw: pl.Series, stamps: pl.Series) -> pl.DataFrame:
        errors: list[RowError] = []
        for row, (value, stamp) in enumerate(zip(raw, stamps, strict=True)):
            if value is None:
                errors.append((row, "MissingTimestamp", "the event has no timestamp", {}))
            elif stamp is None:
                errors.append((row, "UnreadableTimestamp", f"{value!r} is not a timestamp (unit {self.unit})", {}))
            else:
                ahead = stamp - self.clock
                message = f"{ahead} ms ahead of the clock; max_ahead is {self.max_ahead} ms"
                errors.append((row, "TimestampTooFarAhead", message, {"timestamp": stamp, "ahead_ms": ahead}))
        ingested = [pl.col(INGESTED).alias(TIMESTAMP)] if INGESTED in rows.columns else []
        return dead_letters(rows.with_columns(ingested), errors, self.id, [self.topic])
