"""Aggregates of rows that change, against the same aggregates of the rows as they are in the end."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, drive, events, numbered, streams

from thalweg.analytics import average, collect, count, count_distinct, max_, min_, sum_

few = settings(max_examples=15, derandomize=True, deadline=None)
col = pl.col

SETS = {
    "by steps": {"n": count(), "s": sum_("x"), "a": average("x")},
    "with extremes": {"n": count("x"), "low": min_("x"), "high": max_("x")},
    "read again": {"d": count_distinct("x"), "all": collect("x"), "n": count()},
}


def latest(changes: list[Row], key: str) -> dict[object, Row]:
    """The rows that changes by key lead to; inserts and deletes must be what they say."""
    held: dict[object, Row] = {}
    for change in changes:
        op = change.pop("__op")
        assert (op == "insert") == (change[key] not in held), (op, change)
        if op == "delete":
            del held[change[key]]
        else:
            held[change[key]] = change
    return held


def of(rows: list[Row]) -> dict[str, object]:
    """All aggregates of rows with x."""
    xs = [row["x"] for row in rows]
    return {
        "n": len(xs), "s": sum(xs), "a": sum(xs) / len(xs), "low": min(xs), "high": max(xs), "d": len(set(xs)),
        "all": sorted(xs),
    }  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@given(drawn=events, data=st.data())
@few
def test_of_a_keyed_changelog(name: str, drawn, data):
    """Per key the sum of values, then these in groups of their remainder: rows move between groups."""
    left, _ = streams()
    sums = left.key_by("k").aggregate(x=sum_("v")).with_columns(g=col("x") % 3)
    stream = sums.group_by("g").aggregate(**SETS[name])
    rows = [row for row in numbered(drawn) if row[0] == "left"]
    totals: dict[str | None, int] = {}
    for _, row, _ in rows:
        totals[row["k"]] = totals.get(row["k"], 0) + row["v"]
    groups: dict[int, list[Row]] = {}
    for total in totals.values():
        groups.setdefault(total % 3, []).append({"x": total})
    expected = {g: {"g": g} | {n: of(members)[n] for n in SETS[name]} for g, members in groups.items()}
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows), drive(stream, rows, crash_at=crash)):
        assert latest(found, "g") == expected


@pytest.mark.parametrize("name", SETS)
@given(drawn=events, data=st.data())
@few
def test_of_whole_rows_that_come_and_go(name: str, drawn, data):
    """Left rows without a partner, in groups: a partner takes them away."""
    left, right = streams()
    alone = left.join(right, on="k", how="anti").with_columns(x=col("v") % 5, g=col("t") % 2)
    stream = alone.group_by("g").aggregate(**SETS[name])
    rows = numbered(drawn)
    taken = {row["k"] for one, row, _ in rows if one == "right"} - {None}
    groups: dict[int, list[Row]] = {}
    for one, row, _ in rows:
        if one == "left" and row["k"] not in taken:
            groups.setdefault(row["t"] % 2, []).append({"x": row["v"] % 5})
    expected = {g: {"g": g} | {n: of(members)[n] for n in SETS[name]} for g, members in groups.items()}
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        assert latest(found, "g") == expected


def test_one_group_of_everything():
    left, _ = streams()
    stream = left.key_by("k").aggregate(x=max_("v")).group_by().aggregate(low=min_("x"), mean=average("x"))
    rows = [("left", {"k": k, "t": 0, "v": v}, True) for k, v in [("a", 5), ("b", 3), ("a", 9), ("b", 7)]]
    assert [row["low"] for row in drive(stream, rows)] == [5, 3, 3, 7]
