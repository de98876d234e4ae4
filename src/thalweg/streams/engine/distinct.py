"""The first event of each combination of values. State: the combinations seen, with the time of what was passed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.streams.batch import TIMESTAMP, Batch, Watermark
from thalweg.streams.operator import Memory, Operator, State, StateDelta
from thalweg.streams.state.row_table import RowTable

_TIME, _ROW = "__time", "__row"


class Distinct(Operator):
    """Passes an event whose values have not been seen; with a time to live, not since that long before its own time.

    Cost: one probe per event. Without a time to live state grows with the combinations.
    """

    def __init__(self, operator_id: str, columns: Sequence[str], ttl: int | None) -> None:
        super().__init__(operator_id)
        self.columns, self.ttl = list(columns), ttl
        self.seen = RowTable("seen", columns, columns)
        self._expiry: dict[int, list[pl.DataFrame]] = {}
        self._width = 1 if ttl is None else max(ttl // 16, 1)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        rows = batch.frame.with_row_index(_ROW)
        passed: list[pl.DataFrame] = []
        while rows.height:
            first = rows.unique(self.columns, keep="first", maintain_order=True)
            new = self._new(first)
            passed.append(new)
            self._remember(new)
            rest = rows.join(first.select(_ROW), on=_ROW, how="anti")
            rows = rest if self.ttl is not None else rest.clear()
        kept = pl.concat(passed).sort(_ROW).drop(_ROW) if passed else batch.frame.clear()
        self.account.passed += kept.height
        self.account.filtered += len(batch) - kept.height
        yield Batch(kept)

    def _new(self, rows: pl.DataFrame) -> pl.DataFrame:
        known = self.seen.get(rows)
        if known is None:
            return rows
        if self.ttl is None:
            return rows.filter(~pl.Series(self.seen.has(rows)))
        joined = rows.join(known, on=self.columns, how="left", nulls_equal=True, maintain_order="left")
        over = joined[_TIME].is_null() | (joined[TIMESTAMP] >= joined[_TIME] + self.ttl)
        return rows.filter(over)

    def _remember(self, rows: pl.DataFrame) -> None:
        entries = rows.select(*self.columns, pl.col(TIMESTAMP).alias(_TIME)) if self.ttl else rows.select(self.columns)
        self.seen.put(entries)
        if self.ttl is not None and entries.height:
            for (bucket,), part in (
                entries.with_columns(((pl.col(_TIME) + self.ttl) // self._width).alias("__bucket"))
                .partition_by("__bucket", as_dict=True, include_key=False)
                .items()
            ):
                self._expiry.setdefault(int(bucket), []).append(part)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        """Forgets what no event that is in time can meet."""
        for bucket in [bucket for bucket in self._expiry if (bucket + 1) * self._width <= watermark.event_time]:
            for entries in self._expiry.pop(bucket):
                known = self.seen.get(entries)
                if known is not None:
                    self.seen.remove(known.join(entries, on=[*self.columns, _TIME], how="semi", nulls_equal=True))
        return iter(())

    def memory(self) -> Memory:
        return self.seen.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        return self.seen.snapshot(full=full)

    def restore(self, state: State) -> None:
        self.seen.restore(state)
        rows = self.seen.everything()
        if rows is not None and self.ttl is not None:
            for (bucket,), part in (
                rows.with_columns(((pl.col(_TIME) + self.ttl) // self._width).alias("__bucket"))
                .partition_by("__bucket", as_dict=True, include_key=False)
                .items()
            ):
                self._expiry.setdefault(int(bucket), []).append(part)
