"""Saved state whose columns are not quite those that the program has now: added, removed and widened columns."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from thalweg.errors import StateError


def aligned(frame: pl.DataFrame, wanted: Mapping[str, pl.DataType], where: str) -> pl.DataFrame:
    """The frame with exactly the wanted columns: what is new is null, what is no longer wanted is dropped.

    Raises:
        StateError: a column had a type that does not fit into the one it has now without loss.
    """
    columns = []
    for name, dtype in wanted.items():
        if name not in frame.columns:
            columns.append(pl.lit(None, dtype).alias(name))
        elif frame.schema[name] == dtype:
            columns.append(pl.col(name))
        elif widens(frame.schema[name], dtype):
            columns.append(pl.col(name).cast(dtype, strict=True))
        else:
            raise StateError(
                f"{where}: {name!r} was saved as {frame.schema[name]} and is {dtype} now, which can't hold all of its "
                "values: give the step another .uid(…) to start anew, or the state another name"
            )
    # Literals alone would make one row.
    return frame.select(columns) if any(name in frame.columns for name in wanted) else _nulls(frame.height, wanted)


def widens(before: pl.DataType, now: pl.DataType) -> bool:
    """Whether every value of one type is a value of the other.

    >>> widens(pl.Int32(), pl.Int64()), widens(pl.Int64(), pl.Float64()), widens(pl.Int64(), pl.Int32())
    (True, True, False)
    >>> widens(pl.Null(), pl.String()), widens(pl.Int64(), pl.String())
    (True, False)
    """
    if before == now or before == pl.Null():
        return True
    if isinstance(before, pl.List) and isinstance(now, pl.List):
        return widens(_instance(before.inner), _instance(now.inner))
    if isinstance(before, pl.Struct) and isinstance(now, pl.Struct):
        after = {field.name: _instance(field.dtype) for field in now.fields}
        return all(f.name in after and widens(_instance(f.dtype), after[f.name]) for f in before.fields)
    if not (before.is_numeric() and now.is_numeric()) or before.is_decimal() or now.is_decimal():
        return False
    return _supertype(before, now) == now


def _supertype(first: pl.DataType, second: pl.DataType) -> pl.DataType:
    return pl.concat([_empty(first), _empty(second)], how="vertical_relaxed").schema["v"]


def _empty(dtype: pl.DataType) -> pl.DataFrame:
    return pl.DataFrame(schema={"v": dtype})


def _instance(dtype: object) -> pl.DataType:
    found = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(found, pl.DataType)
    return found


def _nulls(height: int, wanted: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(name, [None] * height, dtype=dtype) for name, dtype in wanted.items()})
