"""Byte strings to columns: what goes in comes out, nothing is read or written beyond, and Python's UTF-8 is ours."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.formats.conftest import GuardedMemory, raw_records

from thalweg.formats import open_format
from thalweg.formats.binary import bad_utf8, binary_column
from thalweg.formats.kernels.binary import copy_rows
from thalweg.formats.raw import row_bytes

PAYLOADS = st.lists(st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode))


def is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(deadline=None)
@given(PAYLOADS)
def test_raw_gives_the_bytes(payloads: list[bytes | None]) -> None:
    decoded = open_format("raw").decoder().decode(raw_records(payloads))
    assert decoded.frame.schema == {"value": pl.Binary}
    assert decoded.frame["value"].to_list() == payloads


@settings(deadline=None)
@given(PAYLOADS)
def test_text_refuses_what_python_refuses(payloads: list[bytes | None]) -> None:
    decoded = open_format("text").decoder().decode(raw_records(payloads))
    good = [row for row, value in enumerate(payloads) if value is None or is_utf8(value)]
    assert decoded.frame.schema == {"value": pl.String}
    read = [None if value is None else value.encode() for value in decoded.frame["value"]]
    assert read == [payloads[row] for row in good]
    rows = list(range(len(payloads))) if decoded.rows is None else decoded.rows.tolist()
    assert rows == good
    assert sorted([*good, *(error.row for error in decoded.errors)]) == list(range(len(payloads)))
    assert all("not UTF-8" in error.message for error in decoded.errors)


def test_the_column_outlives_the_records() -> None:
    raw: Any = raw_records([b"a" * 20, None, b""])
    series = pl.Series(pl.from_arrow(binary_column(raw.value_address, raw.value_length)))
    raw.owner[:] = 0
    assert series.to_list() == [b"a" * 20, None, b""]


@pytest.mark.parametrize("payload", [b"plain ascii text", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"ab\xf4"])
def test_nothing_behind_the_last_byte_is_read(payload: bytes) -> None:
    raw = GuardedMemory().records(payload)
    assert bool(len(bad_utf8(raw.value_address, raw.value_length))) != is_utf8(payload)
    assert binary_column(raw.value_address, raw.value_length).to_pylist() == [payload]


def test_copies_stay_inside_the_buffer() -> None:
    source = np.frombuffer(b"abcdef", dtype=np.uint8)
    addresses = np.full(2, source.ctypes.data, dtype=np.int64)
    out = np.zeros(8, dtype=np.uint8)
    copy_rows(addresses, np.array([6, 6]), np.array([0, 6, 12]), out)
    assert out.tobytes() == b"abcdef\0\0"


@pytest.mark.timeout(240)
def test_the_kernels_come_from_the_cache(tmp_path: Path) -> None:
    code = (
        "from thalweg.formats.kernels import binary as k; from thalweg.formats.kernels.compile import cache_hits;"
        "print(*map(cache_hits, (k.offsets_of, k.copy_rows, k.find_bad_utf8, k.read_views)))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert [run.split() for run in runs] == [["0"] * 4, ["1"] * 4]


@settings(deadline=None)
@given(PAYLOADS, st.integers(0, 5), st.booleans())
def test_payloads_are_found_where_they_lie(payloads: list[bytes | None], start: int, chunked: bool) -> None:
    column = pl.Series(payloads, dtype=pl.Binary)
    column = (pl.concat([column, column], rechunk=False) if chunked else column).slice(start)
    found = row_bytes(column)
    places = zip(found.addresses.tolist(), found.lengths.tolist(), strict=True)
    assert [ctypes.string_at(address, length) for address, length in places] == [value or b"" for value in column]
