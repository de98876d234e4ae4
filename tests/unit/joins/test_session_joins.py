"""Session joins against their definition, however batches are cut, and after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, bag, drive, events, joined, numbered, streams

from thalweg.errors import ConfigurationError
from thalweg.streams import App, GlobalWindow, SessionWindow
from thalweg.streams.testing import TestDriver

GAP = 10
HOWS = ["inner", "left", "right", "full", "semi", "anti"]
few = settings(max_examples=5, derandomize=True, deadline=None)


def sessions(rows: Sequence[tuple[str, Row, bool]], longest: int = 10**9) -> dict[Any, list[tuple[int, int]]]:
    """Start and end of the sessions of each key, of the rows of both sides."""
    found: dict[Any, list[tuple[int, int]]] = {}
    for key, time in sorted({(row["k"] or "", row["t"]) for _, row, _ in rows}):
        own = found.setdefault(key, [])
        if own and time - own[-1][1] < GAP and time - own[-1][0] < longest:
            own[-1] = (own[-1][0], time)
        else:
            own.append((time, time))
    return {key: [(start, min(last + GAP, start + longest)) for start, last in own] for key, own in found.items()}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("longest", [None, 15])
@given(drawn=events, data=st.data())
@few
def test_rows_of_a_session_of_both_sides_meet(how: str, longest: int | None, drawn: Any, data: Any):
    left, right = streams(500)  # nothing is late
    stream = left.join(right, on="k", how=how, window=SessionWindow(GAP, longest))
    rows = numbered(drawn)
    spans = sessions(rows, longest or 10**9)

    def place(row: Row) -> tuple[int, int]:
        return next(span for span in spans[row["k"] or ""] if span[0] <= row["t"] < span[1])

    sides = [[row for one, row, _ in rows if one == source] for source in ("left", "right")]
    expected = joined(*sides, how, lambda a, b: a["k"] == b["k"] and place(a) == place(b))
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        for row in found:
            time = row["t"] if row["t"] is not None else row["t_right"]
            assert (row.pop("window_start"), row.pop("window_end")) == place({"k": row["k"], "t": time})
        assert bag(found) == bag(expected)


@pytest.mark.parametrize("how", ["inner", "full"])
@pytest.mark.parametrize("longest", [None, 15])
@given(drawn=events, late=st.integers(0, 20), lateness=st.integers(0, 15), data=st.data())
@few
def test_late_rows_and_results_depend_on_neither_batches_nor_crashes(
    how: str, longest: int | None, drawn: Any, late: int, lateness: int, data: Any
):
    left, right = streams(late)
    patience = lateness if longest is None else 0
    stream = left.join(right, on="k", how=how, window=SessionWindow(GAP, longest), allowed_lateness=patience)
    rows = numbered(drawn)
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    one_by_one = [(source, row, True) for source, row, _ in rows]
    expected = bag(drive(stream, one_by_one))
    assert bag(drive(stream, rows)) == expected
    assert bag(drive(stream, rows, crash_at=crash)) == expected


def test_the_other_side_bridges_a_pause():
    left, right = streams()
    driver = TestDriver(left.join(right, on="k", window=SessionWindow(GAP)))
    driver.send([{"k": "a", "t": 0, "v": 1}, {"k": "a", "t": 16, "v": 2}], source="left")
    driver.send([{"k": "a", "t": 8, "w": 3}, {"k": "a", "t": 40, "w": 4}], source="right")
    driver.send([{"k": "a", "t": 40, "v": 5}], source="left")
    found = driver.output().select("v", "w", "window_start", "window_end").rows()
    assert found == [(1, 3, 0, 26), (2, 3, 0, 26)]
    assert [len(side) for side in driver.dataflow.stages[2].operator.sides] == [1, 1]
    driver.end()
    assert driver.output().select("v", "w").rows() == [(5, 4)]
    assert [len(side) for side in driver.dataflow.stages[2].operator.sides] == [0, 0]


def test_what_comes_after_its_session_has_closed_is_late():
    left, right = streams()
    stream = left.join(right, on="k", how="full", window=SessionWindow(GAP), allowed_lateness=5)
    driver = TestDriver(stream, stream.late)
    driver.send([{"k": "a", "t": 0, "v": 1}, {"k": "a", "t": 50, "v": 2}, {"k": "a", "t": 36, "v": 3}], source="left")
    driver.send([{"k": "a", "t": 50, "w": 4}, {"k": "a", "t": 20, "w": 5}], source="right")
    assert driver.output(stream).select("v", "w", "window_start").rows() == [(1, None, 0)]
    assert driver.output(stream.late, reserved=True).select("w", "__late_window_end", "__lateness").rows() == [
        (5, 35, 15)
    ]
    assert driver.accounts()["join-1"].late == 1
    driver.end()
    assert driver.output(stream).select("v", "w", "window_start").rows() == [(3, None, 36), (2, 4, 50)]


def test_keys_of_other_names_and_types_and_none_at_all():
    app = App("orders")
    left, right = app.stream("left", timestamp="t"), app.stream("right", timestamp="t")
    driver = TestDriver(left.join(right, on={"a": "b"}, how="full", window=SessionWindow(GAP)))
    driver.send([{"a": 1, "t": 0}, {"a": 2, "t": 1}], source="left")
    driver.send([{"b": 1.0, "t": 5}, {"b": 3.0, "t": 5}], source="right")
    driver.end()
    assert sorted(driver.output().select("a", "t", "t_right").rows()) == [(1, 0, 5), (2, 1, None), (3, None, 5)]
    driver = TestDriver(left.join(right, window=SessionWindow(GAP)))
    driver.send([{"a": 1, "t": 0}, {"a": 2, "t": 30}], source="left")
    driver.send([{"b": 1.0, "t": 5}, {"b": 3.0, "t": 31}], source="right")
    driver.end()
    assert driver.output().select("a", "b").rows() == [(1, 1.0), (2, 3.0)]


def test_with_a_longest_length_who_comes_behind_the_watermark_is_late():
    left, right = streams()
    stream = left.join(right, on="k", how="full", window=SessionWindow(GAP, max_length=15))
    driver = TestDriver(stream, stream.late)
    driver.send([{"k": "a", "t": t, "v": t} for t in (0, 9, 18, 17)], source="left")
    driver.send([{"k": "a", "t": t, "w": t} for t in (8, 14, 15)], source="right")
    assert driver.output(stream).select("v", "w").rows() == [(0, 8), (0, 14), (9, 8), (9, 14)]
    late = driver.output(stream.late, reserved=True)
    assert late.select("v", "__late_window_end", "__lateness").rows() == [(17, 18, 0)]
    driver.end()
    assert driver.output(stream).select("v", "w", "window_start", "window_end").rows() == [(18, 15, 15, 28)]


def test_what_is_refused():
    left, right = streams()
    with pytest.raises(ConfigurationError, match="leave allowed_lateness out"):
        left.join(right, on="k", window=SessionWindow(GAP, max_length=20), allowed_lateness=5)
    with pytest.raises(ConfigurationError, match="aligned or session windows only"):
        left.join(right, on="k", window=GlobalWindow())
