"""JSON records to columns: a kernel that speculates on their shape, and the general parser for what does not fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.formats.errors import MAX_CHUNK_BYTES, ErrorClass, Refused
from thalweg.formats.json.columns import Column, Slots
from thalweg.formats.json.convert import contains_decimal
from thalweg.formats.json.general import GeneralParser
from thalweg.formats.json.inference import Inference
from thalweg.formats.kernels import values as kinds
from thalweg.formats.kernels.read_json import CLOSED, CLOSED_WITHIN, MARK_FIELDS, NULLS, OPEN, read_records
from thalweg.formats.kernels.skeleton import (
    FIRST_FOLLOWER,
    FIRST_NODE,
    FOLLOWERS,
    NODE_BYTES,
    NODE_COUNT,
    NODES,
    PREDICTED,
    SEARCHED,
    index_keys,
)
from thalweg.formats.schemas import check_known, joined, resolve
from thalweg.records import Decoded, DecodeError, RawRecords

_SEED = 100
"""So many records are looked at before the kernel first runs on inferred columns."""
_JUDGED = 1_000
"""So many fields are read before the skeleton is judged by its guesses."""
_SLACK = 32


class JsonDecoder:
    """Decodes one stream's records; single-threaded, and it learns from what it reads.

    Args:
        schema: the columns and their types; None infers them from the data.
        columns: the only columns to make; None for all. Records are checked as a whole either way.
        required: fields that must be there and not null.
        speculate: False sends every record to the general parser (to compare the two paths).
    """

    def __init__(
        self,
        schema: Mapping[str, Any] | None = None,
        columns: Iterable[str] | None = None,
        *,
        required: Iterable[str] = (),
        speculate: bool = True,
    ) -> None:
        self._only = None if columns is None else frozenset(columns)
        self._required = frozenset(required)
        self._speculate = speculate
        self._inference = Inference(self._only) if schema is None else None
        self._given = None if schema is None else resolve(schema)
        self._seeded = False
        if self._given is not None:
            check_known((self._only or frozenset()) | self._required, self._given)
        self._layout()

    def decode(self, raw: RawRecords) -> Decoded:
        """Reads every record; what can't be read is in `errors`, by row."""
        if int(raw.value_length.clip(min=0).sum()) <= MAX_CHUNK_BYTES:
            return self._decode(raw, 0, len(raw))
        return self._decode_in_chunks(raw)

    def _layout(self) -> None:
        """Lays out the columns of the current schema for the kernel, with nothing learned."""
        schema = self._given if self._inference is None else self._inference.schema
        names = dict.fromkeys([*(schema or ()), *sorted(self._required)])
        self._columns: list[Column] = []
        for name in names:
            if self._wants(name) or name in self._required:
                dtype = (schema or {}).get(name, pl.Null())
                self._add(Column(name, dtype=dtype, wanted=self._wants(name), required=name in self._required))
        keys = [column.name.encode() for column in self._columns]
        lengths = np.array([len(key) for key in keys], np.int64)
        owners = np.array([column.owner for column in self._columns], np.int64)
        self._places = np.stack([np.cumsum(lengths) - lengths, lengths, owners], axis=1)
        self._key_bytes = np.frombuffer(b"".join(keys) or b"\0", np.uint8)
        self._buckets = np.empty(max(16, 1 << (2 * len(keys)).bit_length()), np.int64)
        index_keys(self._key_bytes, self._places, self._buckets)
        self._parser = GeneralParser(exact=any(contains_decimal(c.dtype) for c in self._columns if c.wanted))
        self._forget()

    def _add(self, column: Column) -> None:
        """Appends a column and, where it is an object, its fields."""
        self._columns.append(column)
        owner = len(self._columns)
        if column.kind == kinds.OBJECT:
            assert isinstance(column.dtype, pl.Struct)
            for field in column.dtype.fields:
                self._add(Column(*column.keys, field.name, dtype=field.dtype, owner=owner))  # type: ignore[arg-type]

    def _wants(self, name: str) -> bool:
        if self._only is not None:
            return name in self._only
        return self._given is None or name in self._given

    def _forget(self) -> None:
        """Empties the skeleton."""
        self._node_bytes = np.zeros((NODES, NODE_BYTES), np.uint8)
        self._nodes = np.full((NODES, FIRST_FOLLOWER + FOLLOWERS), -1, np.int64)
        self._counts = np.zeros(3, np.int64)
        self._counts[NODE_COUNT] = FIRST_NODE

    def _decode_in_chunks(self, raw: RawRecords) -> Decoded:
        parts: list[Decoded] = []
        rows: list[npt.NDArray[np.int64]] = []
        start = 0
        totals = np.cumsum(raw.value_length.clip(min=0))
        while start < len(raw):
            before = int(totals[start - 1]) if start else 0
            stop = max(int(np.searchsorted(totals, before + MAX_CHUNK_BYTES, side="right")), start + 1)
            part = self._decode(raw, start, stop)
            rows.append(np.arange(start, stop) if part.rows is None else part.rows)
            parts.append(part)
            start = stop
        frame = joined([part.frame for part in parts], self._frame([], 0).schema)
        errors = [error for part in parts for error in part.errors]
        return Decoded(frame, np.concatenate(rows), errors)

    def _decode(self, raw: RawRecords, start: int, stop: int) -> Decoded:
        """Decodes the records [start, stop), at most `MAX_CHUNK_BYTES` unless it is a single one."""
        addresses = np.ascontiguousarray(raw.value_address[start:stop]).view(np.int64)
        lengths = np.ascontiguousarray(raw.value_length[start:stop], np.int64)
        if stop - start == 1 and lengths[0] > MAX_CHUNK_BYTES:
            error = DecodeError(start, ErrorClass.TOO_LARGE, f"{lengths[0]} bytes; the most is {MAX_CHUNK_BYTES}")
            return Decoded(self._frame([], 0), np.empty(0, np.int64), [error])
        batch = _Batch(raw, start, addresses, lengths)
        if self._inference is not None and not self._seeded:
            self._seeded = True
            self._learn_columns(batch, range(min(_SEED, stop - start)), [])
        slots = self._read(batch)
        if self._inference is not None and self._learn_columns(batch, *self._to_observe(batch, slots)):
            slots = self._read(batch)
        return self._finish(batch, slots)

    def _read(self, batch: _Batch) -> list[Slots]:
        """Runs the kernel, then parses the values that it only delimited."""
        slots = [Slots(column, batch.rows) for column in self._columns]
        for each in slots:
            if each.column.owner:
                slots[each.column.owner - 1].fields.append(each)
        layout = np.array([each.layout() for each in slots], np.int64).reshape(len(slots), 7)
        marks = np.zeros((len(slots), MARK_FIELDS), np.int64)
        batch.refused = np.zeros(batch.rows, np.uint8)
        if self._speculate:
            room = int(batch.lengths.clip(min=0).sum()) if any(c.kind == kinds.STRING for c in self._columns) else 0
            side = np.empty(room + _SLACK, np.uint8)
            closed = OPEN if self._inference is None else CLOSED if self._only is None else CLOSED_WITHIN
            taken = read_records(
                batch.addresses, batch.lengths, batch.refused, layout, marks, self._key_bytes, self._places,
                self._buckets, self._node_bytes, self._nodes, self._counts, side.ctypes.data, closed,
            )  # fmt: skip
            # Strings of a few bytes leave nearly all of it empty: do not let the column hold on to that.
            batch.side = side[:taken].copy() if 2 * taken < len(side) else side[:taken]
            self._judge_skeleton()
        else:
            batch.refused[:] = 1
        batch.refused[list(batch.failed)] = 1
        refused = np.flatnonzero(batch.refused)
        for index, each in enumerate(slots):
            each.nulls = bool(marks[index, NULLS])
            each.clear(refused)
        spans = [each for each in slots if each.column.kind == kinds.SPAN]
        if spans:
            self._read_spans(batch, spans)
        return slots

    def _read_spans(self, batch: _Batch, spans: list[Slots]) -> None:
        accepted = np.flatnonzero(batch.refused == 0).tolist()
        try:
            for each in spans:
                each.read_spans(accepted, self._parser)
        except Refused:
            # The general parser is stricter than the kernel somewhere: let it judge each record by itself.
            batch.refused[:] = 1

    def _judge_skeleton(self) -> None:
        """Starts to learn anew where the records of late look different from those that were learned."""
        if self._counts[PREDICTED] + self._counts[SEARCHED] < _JUDGED:
            return
        if self._counts[SEARCHED] > self._counts[PREDICTED] // 2:
            self._forget()
        self._counts[[PREDICTED, SEARCHED]] = 0

    def _to_observe(self, batch: _Batch, slots: list[Slots]) -> tuple[Iterable[int], list[Slots]]:
        """What inference has to see: the refused records, and all of them where values may nest."""
        nested = [each for each in slots if each.column.kind == kinds.SPAN]
        rows: Iterable[int] = range(batch.rows) if nested else np.flatnonzero(batch.refused).tolist()
        return rows, nested

    def _learn_columns(self, batch: _Batch, rows: Iterable[int], nested: list[Slots]) -> bool:
        """Shows records to the inference, in order; says whether the columns changed."""
        assert self._inference is not None
        changed = False
        for row in rows:
            if row in batch.failed:
                continue
            try:
                if nested and not batch.refused[row]:
                    record = _record_of(nested, row)
                else:
                    record = batch.record(row, self._parser)
                changed |= self._inference.observe(record)
            except Refused as refusal:
                batch.failed[row] = refusal
        if changed:
            self._layout()
        return changed

    def _finish(self, batch: _Batch, slots: list[Slots]) -> Decoded:
        """The general parser's records into the slots, the slots into columns, the failures out of them."""
        for row in np.flatnonzero(batch.refused).tolist():
            if row not in batch.failed:
                try:
                    self._put(row, batch.record(row, self._parser), slots)
                except Refused as refusal:
                    batch.failed[row] = refusal
        self._convert_spans(batch, [each for each in slots if each.column.kind == kinds.SPAN])
        series = []
        for each in slots:
            if not each.column.wanted or each.column.owner:
                continue
            made = each.series(batch.side)
            misfits = each.misfits(made)
            for row in misfits[0].tolist() if misfits else ():
                message = f"field {made.name!r}: the value does not fit {made.dtype}"
                batch.failed.setdefault(row, Refused(misfits[1], message))  # type: ignore[index]
            series.append(made)
        return self._report(batch, self._frame(series, batch.rows))

    def _put(self, row: int, record: dict[str, Any], slots: list[Slots]) -> None:
        for each in slots:
            if each.column.required and record.get(each.column.name) is None:
                state = "null" if each.column.name in record else "missing"
                raise Refused(ErrorClass.MISSING_FIELD, f"required field {each.column.name!r} is {state}")
        for each in slots:
            if each.column.wanted and not each.column.owner:
                each.put(row, each.column.convert(record.get(each.column.name), each.column.name))

    def _convert_spans(self, batch: _Batch, spans: list[Slots]) -> None:
        """Checks and converts the nested values of the records that the kernel took."""
        for each in spans:
            convert, name, objects = each.column.convert, each.column.path, each.objects
            for row in np.flatnonzero(batch.refused == 0).tolist():
                try:
                    objects[row] = convert(objects[row], name)
                except Refused as refusal:
                    objects[row] = None
                    batch.failed.setdefault(row, refusal)

    def _report(self, batch: _Batch, frame: pl.DataFrame) -> Decoded:
        if not batch.failed:
            return Decoded(frame, None if batch.start == 0 else np.arange(batch.start, batch.start + batch.rows))
        good = np.ones(batch.rows, bool)
        good[list(batch.failed)] = False
        errors = [
            DecodeError(row + batch.start, str(refusal.error_class), refusal.message)
            for row, refusal in sorted(batch.failed.items())
        ]
        return Decoded(frame.filter(pl.Series(good)), np.flatnonzero(good) + batch.start, errors)

    def _frame(self, series: list[pl.Series], rows: int) -> pl.DataFrame:
        if series:
            return pl.DataFrame(series)
        if rows == 0:
            return pl.DataFrame(schema={c.name: c.dtype for c in self._columns if c.wanted and not c.owner})
        return pl.DataFrame(height=rows)


def _record_of(nested: list[Slots], row: int) -> dict[str, Any]:
    """The part of a record that the kernel only delimited, as the general parser would give it."""
    record: dict[str, Any] = {}
    for each in nested:
        *outer, last = each.column.keys
        place = record
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = each.objects[row]
    return record


class _Batch:
    """What is known of the records of one call while they are read."""

    def __init__(
        self, raw: RawRecords, start: int, addresses: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> None:
        self._raw = raw
        self.start = start
        self.rows = len(lengths)
        self.addresses = addresses
        self.lengths = lengths
        self.side = np.empty(0, np.uint8)
        self.refused = np.zeros(self.rows, np.uint8)
        self.failed: dict[int, Refused] = {}
        self._parsed: dict[int, dict[str, Any]] = {}

    def record(self, row: int, parser: GeneralParser) -> dict[str, Any]:
        """The record as the general parser reads it, once.

        Raises:
            Refused: it can't be read.
        """
        known = self._parsed.get(row)
        if known is None:
            known = self._parsed[row] = parser.record(self._raw.value(self.start + row))
        return known
