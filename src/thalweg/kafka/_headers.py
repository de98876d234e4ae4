"""Headers of records that were read, as a column: looked at only when somebody asks."""

from __future__ import annotations

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.binary import binary_column
from thalweg.kafka._consume_api import address
from thalweg.kafka._messages import Share
from thalweg.kafka._plain_records import PlainOwner
from thalweg.records import Int64s, RawRecords

HEADERS_TYPE = pl.List(pl.Struct({"key": pl.String, "value": pl.Binary}))
"""A record's headers, in their order; a name may come more than once."""


def headers_of(raw: RawRecords) -> pl.Series:
    """The headers of n records, of type `HEADERS_TYPE`; an empty list where a record has none.

    Raises:
        ConfigurationError: the records are not a consumer's (any more).
    """
    import pyarrow as pa

    if isinstance(raw.owner, PlainOwner):
        return raw.owner.headers(HEADERS_TYPE)
    if not isinstance(raw.owner, Share):
        raise ConfigurationError("headers can be read only until the records are released")
    offsets, (names, name_lengths, values, value_lengths) = _places(raw.owner.messages)
    keys = _text(binary_column(names.view(np.uint64), name_lengths))
    pairs = pa.StructArray.from_arrays(
        [keys, binary_column(values.view(np.uint64), value_lengths)], names=["key", "value"]
    )
    column = pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pairs)))
    return column.cast(HEADERS_TYPE)


def _places(messages: Int64s) -> tuple[Int64s, Int64s]:
    from thalweg.kafka._header_kernels import count_headers, gather_headers

    calls = np.array(
        [address(f"rd_kafka_{name}") for name in ("message_headers", "header_cnt", "header_get_all")], dtype=np.int64
    )
    offsets = np.zeros(len(messages) + 1, dtype=np.int64)
    places = np.zeros((4, count_headers(calls, messages, offsets)), dtype=np.int64)
    gather_headers(calls, messages, offsets, places)
    return offsets, places


def _text(names: object) -> object:
    """Names as text; bytes that are not UTF-8 are replaced, so that one odd producer stops nobody."""
    import pyarrow as pa

    assert isinstance(names, pa.Array)
    try:
        return names.cast(pa.large_string())
    except pa.ArrowInvalid:
        return pa.array([name.decode(errors="replace") for name in names.to_pylist()], type=pa.large_string())
