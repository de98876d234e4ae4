"""Frames from what per-row functions return: records of any shape, with types that stay as they were once seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from thalweg.streams.engine.dead_letters import RowError

Made = tuple[pl.DataFrame, list[int], list[RowError]]


class RowFrames:
    """Turns records into frames whose columns keep their types from one batch to the next.

    Without a schema, types are learned from the first records and widen where that loses nothing (null to anything, int
    to float). A record that does not fit is an error of its own row (class "WrongType").
    """

    def __init__(self, schema: pl.Schema | None = None, names: Iterable[str] = ()) -> None:
        self.fixed = schema is not None
        self.schema: dict[str, pl.DataType] = dict(schema) if schema is not None else dict.fromkeys(names, pl.Null())

    def make(self, records: Sequence[object]) -> Made:
        """Makes a frame of the records that are not None.

        Returns:
            The frame, the position in `records` of each of its rows, and the errors of those that did not fit.
        """
        kept: list[int] = []
        rows: list[dict[str, Any]] = []
        errors: list[RowError] = []
        for position, record in enumerate(records):
            if record is None:
                continue
            row = as_record(record)
            if row is None:
                message = f"a {type(record).__name__} is not a record; return a dict, a dataclass or a Row"
                errors.append((position, "NotARecord", message, {}))
                continue
            kept.append(position)
            rows.append(row)
        try:
            return self._frame(rows), kept, errors
        except _MISFITS:
            return self._one_by_one(rows, kept, errors)

    def _frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        if self.fixed:
            return pl.DataFrame(rows, schema=self.schema, strict=True)
        if not rows:
            return pl.DataFrame(schema=self.schema)
        names = list(dict.fromkeys([*self.schema, *(name for row in rows for name in row)]))
        inferred = pl.DataFrame({name: pl.Series(name, [row.get(name) for row in rows], strict=True) for name in names})
        widened = _wider(self.schema, dict(inferred.schema))
        frame = inferred.cast({name: widened[name] for name in names}, strict=True)
        self.schema = widened
        return frame

    def _one_by_one(self, rows: list[dict[str, Any]], kept: list[int], errors: list[RowError]) -> Made:
        frames: list[pl.DataFrame] = []
        good: list[int] = []
        for position, row in zip(kept, rows, strict=True):
            try:
                frames.append(self._frame([row]))
                good.append(position)
            except _MISFITS as error:
                message = str(error).splitlines()[0]
                errors.append((position, "WrongType", f"does not fit the columns seen before: {message}", {}))
        whole = pl.DataFrame(schema=self.schema)
        return pl.concat([whole, *frames], how="diagonal_relaxed"), good, errors


_MISFITS = (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)


def as_record(value: object) -> dict[str, Any] | None:
    """A mapping, dataclass, msgspec Struct or Row as a plain dict; None where it is no record."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    to_dict = getattr(value, "to_dict", None)
    result = to_dict() if callable(to_dict) else None
    return result if isinstance(result, dict) else None


def plain(value: object) -> object:
    """Nested rows and dataclasses as dicts; anything else as it is."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) or hasattr(value, "to_dict") or dataclasses.is_dataclass(value):
        record = as_record(value)
        return value if record is None else record
    return value


def _wider(known: Mapping[str, pl.DataType], new: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """For each column the smaller type that holds both."""
    result = dict(known)
    for name, dtype in new.items():
        before = result.get(name, pl.Null())
        if before == dtype or dtype == pl.Null():
            continue
        if before == pl.Null():
            result[name] = dtype
        elif (before.is_numeric() and dtype.is_numeric()) or (before.is_nested() and dtype.is_nested()):
            result[name] = pl.concat([_empty(before), _empty(dtype)], how="vertical_relaxed").schema["v"]
        else:
            raise TypeError(f"column {name!r} was {before} and is {dtype} now")
    for name in known.keys() | new.keys():
        result.setdefault(name, new.get(name, pl.Null()))
    return result


def _empty(dtype: pl.DataType) -> pl.DataFrame:
    return pl.DataFrame(schema={"v": dtype})
