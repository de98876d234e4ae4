"""The Nexmark queries over the seeded generator's events against DuckDB's batch answers, which are frozen."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from benchmarks.nexmark.generator import Chunk, chunks
from benchmarks.nexmark.queries import QUERIES, Streams
from benchmarks.nexmark.reference import REFERENCE, answer
from polars.testing import assert_frame_equal

from thalweg.streams import App
from thalweg.streams.testing import TestDriver, current_rows

EVENTS, RATE = 20_000, 800
"""25 s of event time: three windows of 10 s."""
FROZEN = Path(__file__).parent / "nexmark_frozen.json"
FOLDED = {"q105"}
"""More than the first 1,000 auctions have bids here: which of equal counts are kept is not said."""


@cache
def events() -> Chunk:
    (chunk,) = chunks(EVENTS, seed=7, rate=RATE)
    return chunk


@cache
def expected(query: str) -> pl.DataFrame:
    return ordered(answer(query, events().person, events().auction, events().bid))


def ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in an order that does not depend on where they come from, with plain types."""
    frame = frame.select(sorted(frame.columns))
    floats = [pl.col(n).cast(pl.Float64) for n, t in frame.schema.items() if t.is_decimal() or t.is_float()]
    integers = [pl.col(n).cast(pl.Int64) for n, t in frame.schema.items() if t.is_integer()]
    return frame.with_columns(floats + integers).sort(frame.columns)


@pytest.mark.parametrize("query", QUERIES)
def test_the_engine_gives_what_duckdb_gives(query: str):
    result = QUERIES[query](Streams.of(App(f"nexmark-{query}")))
    driver = TestDriver(result.stream, batch_size=3_000)
    found: list[pl.DataFrame] = []
    for start in range(0, EVENTS, 10_000):
        for name, frame in events().items():
            share = frame.height * start // EVENTS, frame.height * (start + 10_000) // EVENTS
            if name in [source.topic for source in driver.plan.sources]:
                driver.send(frame[share[0] : share[1]], source=name)
    driver.end()
    driver.advance_clock(10_000)  # closes the windows of processing time, all of whose events came within ten seconds
    found.append(driver.output())
    rows = result.view(current_rows(pl.concat(found), result.stream.key_columns))
    if query in FOLDED:
        rows, wanted = rows.select(pl.col("bid_count")), expected(query).select("bid_count")
    else:
        rows, wanted = rows.select(expected(query).columns), expected(query)
    assert wanted.height, "a query without rows proves nothing"
    assert_frame_equal(ordered(rows), ordered(wanted), rel_tol=1e-9)


def test_the_generators_answers_are_the_frozen_ones():
    """The seed gives the same events, and these the same answers, today as when they were frozen."""
    frozen = json.loads(FROZEN.read_text())
    assert sorted(frozen) == sorted(REFERENCE) == sorted(QUERIES)
    assert {query: digest(query) for query in REFERENCE} == frozen


def digest(query: str) -> str:
    """Of a query's rows, floats to nine digits."""
    # Sorted anew: the order of all columns would tell which of equal counts DuckDB kept this time.
    rows = expected(query) if query not in FOLDED else ordered(expected(query).select("bid_count"))
    text = "\n".join(repr([f"{v:.9g}" if isinstance(v, float) else v for v in row]) for row in rows.rows())
    return f"{rows.height} rows, {hashlib.sha256(text.encode()).hexdigest()[:16]}"
