"""JSON values, as the general parser gives them, to what a column of a given type stores.

Times are stored as integers (ticks since 1970), so that both paths of the decoder fill the same buffers.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
from collections.abc import Callable
from datetime import time
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.errors import ErrorClass, Refused
from thalweg.formats.json.general import describe

TICKS = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Ticks per second of a time unit."""
FIRST_MILLISECOND = -62_135_596_800_000
LAST_MILLISECOND = 253_402_300_799_999
_TIME_LIMIT = 9_200_000_000_000_000_000
"""Times of more ticks than this are out of range (only nanoseconds get there, in 1678 and 2261)."""
_LARGEST_SAFE = 2**53

Converter = Callable[[Any, str], Any]
"""(value, name of the field for the error) to what is stored; null stays None."""


def integer_range(dtype: pl.DataType) -> tuple[int, int]:
    """The smallest and largest value of an integer type.

    >>> integer_range(pl.Int8()), integer_range(pl.UInt16())
    ((-128, 127), (0, 65535))
    """
    name = str(dtype)
    bits = int(name.removeprefix("U").removeprefix("Int"))
    return (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def storage_type(dtype: pl.DataType) -> pl.DataType:
    """The type of the values that `converter(dtype)` gives: the same, with times as integers and enums as strings."""
    if isinstance(dtype, pl.List):
        return pl.List(storage_type(_instance(dtype.inner)))
    if isinstance(dtype, pl.Array):
        return pl.Array(storage_type(_instance(dtype.inner)), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(f.name, storage_type(_instance(f.dtype))) for f in dtype.fields])
    if isinstance(dtype, pl.Datetime | pl.Duration | pl.Time):
        return pl.Int64()
    if isinstance(dtype, pl.Date):
        return pl.Int32()
    if isinstance(dtype, pl.Enum | pl.Categorical):
        return pl.String()
    return dtype


def contains_decimal(dtype: pl.DataType) -> bool:
    """Whether a decimal stands anywhere in the type."""
    if isinstance(dtype, pl.List | pl.Array):
        return contains_decimal(_instance(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return any(contains_decimal(_instance(f.dtype)) for f in dtype.fields)
    return isinstance(dtype, pl.Decimal)


def _instance(dtype: Any) -> pl.DataType:
    """`pl.Int64` and `pl.Int64()` are both types to Polars; only the latter is an instance."""
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def converter(dtype: pl.DataType, name: str = "") -> Converter:
    """What turns JSON values into stored values of `dtype`.

    Raises:
        ConfigurationError: JSON has no form for this type.
    """
    if isinstance(dtype, pl.List | pl.Array):
        return _list(dtype)
    if isinstance(dtype, pl.Struct):
        return _struct(dtype)
    if dtype.is_integer():
        return _integer(dtype)
    if dtype.is_float():
        return _float
    if isinstance(dtype, pl.Datetime | pl.Duration):
        return _datetime(dtype) if isinstance(dtype, pl.Datetime) else _duration(dtype)
    if isinstance(dtype, pl.Decimal):
        return _decimal(dtype)
    if isinstance(dtype, pl.Enum):
        return _enum(dtype)
    simple = _SIMPLE.get(type(dtype))
    if simple is None:
        raise ConfigurationError(f"column {name!r}: JSON can't be read as {dtype}")
    return simple


def wrong_type(field: str, wanted: object, value: object) -> Refused:
    """The error of a value that is not what the schema says."""
    return Refused(ErrorClass.WRONG_TYPE, f"field {field!r}: expected {wanted}, got {describe(value)}")


def out_of_range(field: str, wanted: object, value: object) -> Refused:
    """The error of a value that the column's type can't hold."""
    return Refused(ErrorClass.NUMBER_OUT_OF_RANGE, f"field {field!r}: {describe(value)} is out of range of {wanted}")


def _integer(dtype: pl.DataType) -> Converter:
    low, high = integer_range(dtype)

    def convert(value: Any, field: str) -> int | None:
        if value is None:
            return None
        if type(value) is not int and not _is_whole(value):
            raise wrong_type(field, dtype, value)
        number = int(value)
        if not low <= number <= high:
            raise out_of_range(field, dtype, value)
        return number

    return convert


def _is_whole(value: Any) -> bool:
    """25.0 is an integer that some producers write with a point; 25.5 is not, nor is what a double may have rounded."""
    return isinstance(value, float | Decimal) and -_LARGEST_SAFE <= value <= _LARGEST_SAFE and value == int(value)


def _float(value: Any, field: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise wrong_type(field, "a number", value)
    try:
        result = float(value)
    except OverflowError:
        raise out_of_range(field, "Float64", value) from None
    if result in (float("inf"), float("-inf")):  # a Decimal does not overflow by itself
        raise out_of_range(field, "Float64", value)
    return result


def _boolean(value: Any, field: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise wrong_type(field, "Boolean", value)
    return value


def _string(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise wrong_type(field, "String", value)
    return value


def _null(value: Any, field: str) -> None:
    if value is not None:
        raise wrong_type(field, "null", value)


def _datetime(dtype: pl.Datetime) -> Converter:
    ticks = TICKS[dtype.time_unit]

    def convert(value: Any, field: str) -> int | None:
        if value is None:
            return None
        if isinstance(value, str):
            from thalweg.formats.kernels.times import read_time

            text = value.encode()
            fine, seconds, nanoseconds = read_time(_address(text), len(text))
            if not fine:
                raise wrong_type(field, "an ISO 8601 time of the years 1 to 9999", value)
            if abs(seconds * ticks) > _TIME_LIMIT:
                raise out_of_range(field, dtype, value)
            return int(seconds * ticks + nanoseconds // (1_000_000_000 // ticks))
        if type(value) is not int:
            raise wrong_type(field, "an ISO 8601 time or milliseconds", value)
        if not FIRST_MILLISECOND <= value <= LAST_MILLISECOND or abs(value * ticks) > _TIME_LIMIT * 1000:
            raise out_of_range(field, dtype, value)
        return value * (ticks // 1000)

    return convert


def _date(value: Any, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        from thalweg.formats.kernels.times import read_date

        text = value.encode()
        fine, days = read_date(_address(text), len(text))
        if fine:
            return int(days)
    raise wrong_type(field, "a date such as 2024-02-29", value)


def _time(value: Any, field: str) -> int | None:
    if value is None:
        return None
    try:
        moment = time.fromisoformat(value)
    except (TypeError, ValueError):
        raise wrong_type(field, "a time of day such as 12:30:00", value) from None
    if moment.tzinfo is not None:
        raise wrong_type(field, "a time of day without an offset", value)
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return (seconds * 1_000_000 + moment.microsecond) * 1_000


def _duration(dtype: pl.Duration) -> Converter:
    ticks = TICKS[dtype.time_unit]

    def convert(value: Any, field: str) -> int | None:
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type(field, "a duration in milliseconds", value)
        if abs(value * ticks) > _TIME_LIMIT * 1000:
            raise out_of_range(field, dtype, value)
        return value * ticks // 1000

    return convert


def _decimal(dtype: pl.Decimal) -> Converter:
    digits = dtype.precision or 38

    def convert(value: Any, field: str) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
            raise wrong_type(field, dtype, value)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise wrong_type(field, dtype, value) from None
        if not number.is_finite():
            raise wrong_type(field, dtype, value)
        text = "".join(map(str, number.as_tuple().digits))
        significant = text.rstrip("0")
        exponent = int(number.as_tuple().exponent) + len(text) - len(significant)
        if significant and (-exponent > dtype.scale or len(significant) + exponent > digits - dtype.scale):
            raise out_of_range(field, dtype, value)
        return number

    return convert


def _binary(value: Any, field: str) -> bytes | None:
    if value is None:
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise wrong_type(field, "base64 text", value) from None


def _enum(dtype: pl.Enum) -> Converter:
    categories = frozenset(dtype.categories)

    def convert(value: Any, field: str) -> str | None:
        if value is not None and (not isinstance(value, str) or value not in categories):
            raise wrong_type(field, f"one of {len(categories)} categories", value)
        return value

    return convert


def _list(dtype: pl.List | pl.Array) -> Converter:
    item = converter(_instance(dtype.inner))
    size = dtype.size if isinstance(dtype, pl.Array) else None

    def convert(value: Any, field: str) -> list[Any] | None:
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong_type(field, "an array", value)
        if size is not None and len(value) != size:
            raise Refused(ErrorClass.WRONG_TYPE, f"field {field!r}: expected {size} items, got {len(value)}")
        return [item(each, f"{field}[{i}]") for i, each in enumerate(value)]

    return convert


def _struct(dtype: pl.Struct) -> Converter:
    fields = [(f.name, converter(_instance(f.dtype))) for f in dtype.fields]

    def convert(value: Any, field: str) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise wrong_type(field, "an object", value)
        return {name: part(value.get(name), f"{field}.{name}") for name, part in fields}

    return convert


_SIMPLE: dict[type[pl.DataType], Converter] = {
    pl.Boolean: _boolean,
    pl.String: _string,
    pl.Categorical: _string,
    pl.Null: _null,
    pl.Date: _date,
    pl.Time: _time,
    pl.Binary: _binary,
}


def _address(text: bytes) -> int:
    """Where the bytes lie; the caller keeps them alive."""
    return ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value or 0
