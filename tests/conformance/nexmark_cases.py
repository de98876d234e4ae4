"""Nexmark queries over the published inputs, through the public API and the test driver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.nexmark.queries import QUERIES, Streams

from tests.conformance.not_served import NotServed
from tests.conformance.trial import Fault, Trial
from tests.conformance.window_generic import value_of
from thalweg.streams import App
from thalweg.streams.testing import TestDriver, current_rows

Rows = list[dict[str, Any]]
CASES = Path(__file__).parent / "data" / "nexmark"
TIMES = ("date_time", "expires")


def run_nexmark(query: str, inputs: Path, batch_size: int | None, *, fault: Fault = None) -> list[list[Any]]:
    """The final state of a query after all input: rows in the case's column order.

    Args:
        query: "q0" and so on.
        inputs: the folder of `person.jsonl`, `auction.jsonl` and `bid.jsonl`.
        batch_size: events per batch; None: all of a stream at once.
        fault: what happens after each half of a stream.

    Raises:
        NotServed: there is no such query.
    """
    if query not in QUERIES:
        raise NotServed(f"the query {query!r}")
    result = QUERIES[query](Streams.of(App(f"nexmark-{query}")))
    trial = Trial(result.stream, batch_size=batch_size, fault=fault)
    driver = trial.driver
    for topic, rows in _turns(driver, inputs):
        driver.send(rows, source=topic)
        trial.interrupt()
    driver.end()
    final = result.view(current_rows(driver.output(), result.stream.key_columns))
    return _in_columns(final, json.loads((CASES / f"{query}.json").read_text())["columns"])


def _turns(driver: TestDriver, inputs: Path) -> Iterator[tuple[str, Rows]]:
    """The events of the streams that the query reads, in halves that take turns."""
    events = {source.topic: _events(inputs / f"{source.topic}.jsonl") for source in driver.plan.sources}
    for half in (0, 1):
        for topic, rows in events.items():
            middle = len(rows) // 2
            yield topic, rows[middle:] if half else rows[:middle]


def _events(path: Path) -> Rows:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.update({name: _milliseconds(row[name]) for name in TIMES if name in row})
    return rows


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _in_columns(frame: pl.DataFrame, columns: list[dict[str, str]]) -> list[list[Any]]:
    if not frame.height:
        return []
    kinds = [column["type"] for column in columns]
    rows = frame.select([column["name"] for column in columns]).rows()
    return [[value_of(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in rows]
