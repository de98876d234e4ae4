"""One event as users' functions see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from thalweg.expressions.reserved import EVENT_TIME, is_reserved


class Row(Mapping[str, Any]):
    """An event, or a result: `row.price`, `row["price"]`, `row.get("price")`, `dict(row)`.

    Read-only. A column hides the attribute of the same name (`row.items` is the column where there is one), so that a
    function means the same whether it runs over columns or per row; `row["items"]` always is the column. Nested
    structs are rows as well.

    >>> row = Row({"sensor": "a", "value": {"c": 21.5}}, keys=["sensor"])
    >>> row.sensor, row["value"].c, row.key, row.get("colour", "none")
    ('a', 21.5, 'a', 'none')
    >>> row == {"sensor": "a", "value": {"c": 21.5}}
    True
    """

    __slots__ = ("__columns", "__dict__", "__keys", "__time")

    def __init__(self, fields: Mapping[str, Any], keys: Sequence[str] = (), timestamp: int | None = None) -> None:
        columns = {
            name: Row(value) if isinstance(value, Mapping) and not isinstance(value, Row) else value
            for name, value in fields.items()
            if not is_reserved(name)
        }
        _fill(self, columns, tuple(keys), timestamp)

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__columns[name]
        except KeyError:
            raise KeyError(self.__missing(name)) from None

    def __getattr__(self, name: str) -> Any:
        # Reached only where no column has the name.
        if name == "key":
            return self.__key()
        if name == "timestamp":
            return self.__time
        raise AttributeError(self.__missing(name))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"rows are read-only; return a new record instead: {{**row, {name!r}: …}}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("rows are read-only; return a new record without the column instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self.__columns)

    def __len__(self) -> int:
        return len(self.__columns)

    def __contains__(self, name: object) -> bool:
        return name in self.__columns

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return bool(self.__columns == (other.__columns if isinstance(other, Row) else other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self.__columns.items())})"

    def __reduce__(self) -> Any:
        raise TypeError("rows are not pickled; use row.to_dict()")

    def to_dict(self) -> dict[str, Any]:
        """The columns as plain Python values: nested rows as dicts."""
        return {name: plain(value) for name, value in self.__columns.items()}

    def __key(self) -> Any:
        keys = self.__keys
        if not keys:
            raise AttributeError("this stream has no key; use key_by, or the column's name")
        values = tuple(self.__columns[name] for name in keys)
        return values[0] if len(values) == 1 else values

    def __missing(self, name: str) -> str:
        from difflib import get_close_matches

        close = get_close_matches(str(name), self.__columns, n=3)
        if close:
            return f"no column {name!r}; did you mean {' or '.join(map(repr, close))}?"
        return f"no column {name!r}; there are: {', '.join(self.__columns)}"


def _fill(row: Row, columns: dict[str, Any], key: tuple[str, ...], time: int | None) -> Row:
    # The columns are the instance's own dictionary: attribute access is as fast as Python has it, and hides methods.
    put = object.__setattr__
    put(row, "__dict__", columns)
    put(row, "_Row__columns", columns)
    put(row, "_Row__keys", key)
    put(row, "_Row__time", time)
    return row


def plain(value: Any) -> Any:
    """Rows as dicts, also inside lists and dicts; anything else as it is."""
    if isinstance(value, Row):
        return value.to_dict()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def iter_rows(frame: pl.DataFrame, keys: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a frame. `row.key` is the value of the key column (a tuple where there are several).

    `row.timestamp` is the event time in ms UTC, unless there is a column of that name; None where the frame has none.
    """
    names = [name for name in frame.columns if not is_reserved(name)]
    columns = [_python_values(frame.get_column(name)) for name in names]
    times = frame.get_column(EVENT_TIME).to_list() if EVENT_TIME in frame.columns else None
    key = tuple(keys)
    new = Row.__new__
    if not names:
        for number in range(frame.height):
            yield _fill(new(Row), {}, key, times[number] if times else None)
        return
    for number, values in enumerate(zip(*columns, strict=True)):
        yield _fill(new(Row), dict(zip(names, values, strict=True)), key, times[number] if times else None)


def _python_values(column: pl.Series) -> list[Any]:
    values = column.to_list()
    convert = _converter(column.dtype)
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _converter(dtype: pl.DataType) -> Callable[[Any], Any] | None:
    """What makes rows of the structs in a value of this type; None where there are none."""
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _converter(_instance(field.dtype)) for field in dtype.fields}

        def to_row(value: Mapping[str, Any]) -> Row:
            columns = {
                name: item if (convert := fields[name]) is None or item is None else convert(item)
                for name, item in value.items()
            }
            return _fill(Row.__new__(Row), columns, (), None)

        return to_row
    if isinstance(dtype, pl.List | pl.Array):
        inner = _converter(_instance(dtype.inner))
        if inner is None:
            return None
        each = inner
        return lambda items: [None if item is None else each(item) for item in items]
    return None


def _instance(dtype: Any) -> pl.DataType:
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found
