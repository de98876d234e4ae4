"""What windows whose panes are changes keep of what has been told, and what earlier versions saved of it."""

from __future__ import annotations

import polars as pl
import pytest

from thalweg.analytics import count
from thalweg.streams.batch import MIN_TIME, Batch, Watermark
from thalweg.streams.operator import Operator, OperatorContext, StateDelta
from thalweg.streams.plan.panes import Panes
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.triggers import AfterCount, Repeatedly
from thalweg.streams.windows import SessionWindow, TumblingWindow, Window


def operator(window: Window) -> Operator:
    node = WindowAggregateNode(
        window=window, keys=("k",), aggregates={"n": count()}, panes=Panes(Repeatedly(AfterCount(1)), lateness=1000)
    )
    return node.build(OperatorContext("window", [None]))


def changes(to: Operator, *rows: tuple[str, int]) -> list[tuple[object, ...]]:
    frame = pl.DataFrame(rows, schema={"k": pl.String, "__ts": pl.Int64}, orient="row")
    out = [*to.on_batch(Batch(frame.with_columns(pl.lit(MIN_TIME).alias("__wm")))), *to.on_watermark(Watermark(0, 0))]
    return [row for batch in out for row in batch.frame.select("__op", "k", "window_start", "window_end", "n").rows()]


State = dict[str, list[pl.DataFrame]]


def by_name(state: StateDelta) -> State:
    frames: State = {}
    for name, frame in state.puts:
        frames.setdefault(name, []).append(frame)
    return frames


def as_saved_before(frame: pl.DataFrame) -> pl.DataFrame:
    """Earlier versions saved the bounds of every window, those that never change too."""
    if "__fact6" not in frame.columns or "__fact7" in frame.columns:
        return frame
    return frame.with_columns(pl.col("__start").alias("__fact7"), pl.col("__last").alias("__fact8"))


@pytest.mark.parametrize("version", ["this", "before"])
@pytest.mark.parametrize("window", [TumblingWindow("1m"), SessionWindow("10s")], ids=["tumbling", "session"])
def test_a_restored_window_remembers_what_it_has_told(window: Window, version: str) -> None:
    first = operator(window)
    assert [row[0] for row in changes(first, ("a", 5_000))] == ["insert"]
    second = operator(window)
    state = by_name(first.snapshot(full=True))
    if version == "before":
        state = {name: [as_saved_before(frame) for frame in frames] for name, frames in state.items()}
    second.restore(state)
    expected = changes(first, ("a", 9_000), ("b", 9_000))
    assert changes(second, ("a", 9_000), ("b", 9_000)) == expected
    told = [row[0] for row in expected]
    assert told == (["update", "insert"] if isinstance(window, TumblingWindow) else ["delete", "insert", "insert"])
