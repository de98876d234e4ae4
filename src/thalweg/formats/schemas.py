"""The schemas that decoders are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError


def resolve(schema: Mapping[str, Any]) -> dict[str, pl.DataType]:
    """The types of a schema as instances.

    Raises:
        ConfigurationError: not a type, one that says too little (`pl.List` without what is in it), or a name that Arrow
            can't carry.

    >>> resolve({"a": pl.List(pl.Int64)})
    {'a': List(Int64)}
    """
    try:
        resolved = dict(pl.Schema(schema))
    except TypeError as error:
        raise ConfigurationError(f"schema {dict(schema)}: {error}") from None
    for name in _names(pl.Struct(resolved)):
        if "\0" in name:
            raise ConfigurationError(f"schema: no column can have a name with U+0000, as {name!r} has")
    return {name: _instance(dtype) for name, dtype in resolved.items()}


def _instance(dtype: Any) -> pl.DataType:
    """The type with classes replaced by instances at every depth: to Polars `pl.Int64` and `pl.Int64()` are equal, but
    only the latter is an instance of anything."""
    if isinstance(dtype, type):
        dtype = dtype()
    if isinstance(dtype, pl.List):
        return pl.List(_instance(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(_instance(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(field.name, _instance(field.dtype)) for field in dtype.fields])
    made: pl.DataType = dtype
    return made


def _names(dtype: Any) -> Iterable[str]:
    """The names of all fields of a type, however deep."""
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield field.name
            yield from _names(field.dtype)
    elif isinstance(dtype, pl.List | pl.Array):
        yield from _names(dtype.inner)


def check_known(names: Iterable[str], schema: Mapping[str, Any]) -> None:
    """Makes sure that the schema has all these columns.

    Raises:
        ConfigurationError: it lacks some.
    """
    strangers = set(names) - schema.keys()
    if strangers:
        raise ConfigurationError(f"not in the schema ({', '.join(schema)}): {', '.join(sorted(strangers))}")


def joined(frames: Iterable[pl.DataFrame], schema: Mapping[str, Any]) -> pl.DataFrame:
    """The rows of all frames, missing columns null and numbers widened; also those of frames without columns.

    >>> joined([pl.DataFrame(height=1), pl.DataFrame({"a": [2.5]})], {"a": pl.Int64}).rows()
    [(None,), (2.5,)]
    """
    parts = list(frames)
    if not schema:
        return pl.DataFrame(height=sum(part.height for part in parts))
    empty = pl.DataFrame(schema=schema)
    # Polars' own concat forgets the rows of a frame that has no columns.
    parts = [part if part.width else empty.clear(part.height) for part in parts]
    return pl.concat([empty, *parts], how="diagonal_relaxed", rechunk=True)
