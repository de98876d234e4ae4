"""Events as rows: what per-row functions and subscribers get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

_RESERVED = "__"
_TIME = "__ts"
_CHANGE = "__op"


class Row(Mapping[str, Any]):
    """One event: fields by attribute (`row.amount`), by item (`row["amount"]`), or as a mapping. Read-only.

    Nested structs are rows too. `key` is the value of the key column (a tuple of several) where the stream is keyed,
    and `timestamp` the event time in ms UTC, unless the event has fields of these names.

    >>> row = Row({"user": {"id": 7}, "amount": 3.5})
    >>> row.user.id, row["amount"], row.get("missing", 0)
    (7, 3.5, 0)
    """

    __slots__ = ("_fields", "_keys", "_timestamp")
    _fields: Mapping[str, Any]
    _keys: tuple[str, ...]
    _timestamp: int | None

    def __init__(self, fields: Mapping[str, Any], keys: Sequence[str] = (), timestamp: int | None = None) -> None:
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "_keys", tuple(keys))
        object.__setattr__(self, "_timestamp", timestamp)

    def __getitem__(self, name: str) -> Any:
        return wrap(self._fields[name])

    def __getattr__(self, name: str) -> Any:
        if name in self._fields:
            return wrap(self._fields[name])
        if name == "key" and self._keys:
            values = tuple(wrap(self._fields[key]) for key in self._keys)
            return values[0] if len(values) == 1 else values
        if name == "timestamp" and self._timestamp is not None:
            return self._timestamp
        raise AttributeError(f"the event has no field {name!r}; it has {', '.join(self._fields)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("events are read-only; return a new record from map() instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Row):
            return dict(self._fields) == dict(other._fields)
        return dict(self._fields) == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Row(" + ", ".join(f"{name}={value!r}" for name, value in self._fields.items()) + ")"

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, nested ones too."""
        return dict(self._fields)


def wrap(value: Any) -> Any:
    """Structs as rows, in lists too."""
    if isinstance(value, dict):
        return Row(value)
    if isinstance(value, list):
        return [wrap(item) for item in value]
    return value


def iter_rows(frame: pl.DataFrame, keys: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a frame. Reserved columns are left out, but for `__op` of a changelog and `timestamp`."""
    public = frame.select([n for n in frame.columns if not n.startswith(_RESERVED) or n == _CHANGE])
    if not public.width:
        return (Row({}, keys) for _ in range(frame.height))
    times = frame.get_column(_TIME).to_list() if _TIME in frame.columns else [None] * frame.height
    return (Row(fields, keys, time) for fields, time in zip(public.iter_rows(named=True), times, strict=True))
