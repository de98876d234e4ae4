"""What moves between workers: joins, groups and changes give on three workers, and then two, what they give on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import VALUES, Row, streams

from thalweg import App
from thalweg.analytics import count, max_, sum_
from thalweg.streams import DataStream, Interval, SlidingWindow, TumblingWindow, WatermarkGenerator
from thalweg.streams.testing import TestDriver, current_rows

PARTITIONS = 3
col = pl.col

events = st.lists(
    st.tuples(
        st.sampled_from(["left", "right"]),
        st.integers(0, PARTITIONS - 1),
        st.sampled_from(["a", "b", "c", "d", "e", None]),
        st.integers(0, 120),
    ),
    max_size=40,
)
"""Source, partition, key, time."""
Plan = Callable[[DataStream, DataStream], DataStream]


def by_window(how: str) -> Plan:
    return lambda left, right: left.join(right, on="k", how=how, window=TumblingWindow(20), allowed_lateness=200)


def by_interval(how: str) -> Plan:
    return lambda left, right: left.join(right, on="k", how=how, within=Interval(-10, 5), allowed_lateness=200)


def updating(how: str) -> Plan:
    return lambda left, right: left.join(right, on="k", how=how)


def of_counts(how: str) -> Plan:
    """The right side's rows change the column that they are joined on with every event."""

    def plan(left: DataStream, right: DataStream) -> DataStream:
        counts = right.key_by("k").aggregate(n=count())
        return left.with_columns(v4=col("v") % 4).join(counts, on={"v4": "n"}, how=how)

    return plan


def of_two_that_change(how: str) -> Plan:
    def plan(left: DataStream, right: DataStream) -> DataStream:
        lefts, rights = left.key_by("k").aggregate(n=count()), right.key_by("k").aggregate(m=count())
        return lefts.join(rights, on={"n": "m"}, how=how)

    return plan


def as_of(left: DataStream, right: DataStream) -> DataStream:
    return left.join(right, on="k", as_of=True, how="left", allowed_lateness=200)


def table(left: DataStream, right: DataStream) -> DataStream:
    return left.join(right.key_by("k").to_table(), how="left", allowed_lateness=200)


def moving_group(left: DataStream, right: DataStream) -> DataStream:
    counts = left.union(right.select("k", "t", v="w")).key_by("k").aggregate(n=count(), most=max_("v"))
    return counts.group_by("n").aggregate(keys=count(), total=sum_("most"))


def group_of_a_join(left: DataStream, right: DataStream) -> DataStream:
    return left.join(right, on="k", how="left").with_columns(v3=col("v") % 3).group_by("v3").aggregate(n=count("w"))


def moving_first(left: DataStream, right: DataStream) -> DataStream:
    counts = left.key_by("k").aggregate(n=count(), most=max_("v"))
    return counts.filter(col("n") < 4).group_by("n").top_n(2, by="most")


def first_of_other_columns(left: DataStream, right: DataStream) -> DataStream:
    return left.with_columns(v3=col("v") % 3).key_by("k").group_by("v3").top_n(2, by=["t", "v"])


def distinct(left: DataStream, right: DataStream) -> DataStream:
    return left.with_columns(v3=col("v") % 3).key_by("k").distinct("v3").select("v3")


PLANS: dict[str, Plan] = {
    **{f"window {how}": by_window(how) for how in ("inner", "full")},
    **{f"interval {how}": by_interval(how) for how in ("inner", "left", "full", "anti")},
    **{f"updating {how}": updating(how) for how in ("inner", "right", "full", "semi")},
    **{f"counts {how}": of_counts(how) for how in ("inner", "left", "full", "anti")},
    **{f"both change {how}": of_two_that_change(how) for how in ("inner", "full", "semi", "anti")},
    **{
        one.__name__: one
        for one in (as_of, table, moving_group, group_of_a_join, moving_first, first_of_other_columns, distinct)
    },
}


def run(plan: Plan, sent: Sequence[tuple[str, int, Row]], rescale_at: Sequence[int] = ()) -> list[str]:
    """All that stands at the end; `rescale_at`: where the second, and the third number of workers begin."""
    scaled = {"exchange": 4, "workers": 1} if rescale_at else {}
    stream = plan(*streams())
    driver = TestDriver(stream, partitions=PARTITIONS, **scaled)
    read = {one.topic for one in driver.plan.sources}
    saved = []
    for number, (source, partition, row) in enumerate(sent):
        for workers, at in zip((3, 2), rescale_at, strict=False):
            if number == at:
                saved.append(driver.snapshot())
                driver.restore(*saved, workers=workers)
        if source in read:
            driver.send([row], source=source, partition=partition)
    driver.end()
    for account in driver.accounts().values():
        assert account.closes
    rows = current_rows(driver.output(), stream.key_columns)
    return sorted(repr(sorted(row.items(), key=repr)) for row in rows.to_dicts())


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=12, derandomize=True, deadline=None)
@given(drawn=events, data=st.data())
def test_workers_that_come_and_go_change_no_result(name: str, drawn, data):
    sent = [
        (source, partition, {"k": key, "t": time, VALUES[source]: number})
        for number, (source, partition, key, time) in enumerate(drawn)
    ]
    places = st.integers(0, max(len(sent) - 1, 0))
    at = sorted([data.draw(places), data.draw(places)])
    assert run(PLANS[name], sent, at) == run(PLANS[name], sent)


@pytest.mark.parametrize("workers", [(1, 3), (3, 1), (2, 3), (1, 1)], ids=str)
def test_overlapping_windows_give_each_result_once(workers: tuple[int, int]) -> None:
    """A slice outlives the first of its windows: whoever gets it must know which of them were given."""
    app = App("t")
    left, right = (
        app.stream(name, schema={"k": str, "ts": int}, timestamp="ts", watermark=WatermarkGenerator(0), max_ahead=None)
        for name in ("left", "right")
    )
    counts = left.key_by("k").window(SlidingWindow(4, 2)).aggregate(n=count())
    joined = left.join(right, on="k", window=SlidingWindow(4, 2))
    driver = TestDriver(counts, joined, exchange=4, workers=workers[0])
    saved = []
    for first, last in ((0, 11), (11, 14)):
        rows = [{"k": f"k{n}", "ts": time} for time in range(first, last) for n in range(8)]
        driver.send(rows, source="left")
        driver.send(rows, source="right")
        saved.append(driver.snapshot())
        driver.restore(*saved, workers=workers[1])
    driver.end()
    found = driver.output(counts)
    assert found.height == found.unique(["k", "window_end"]).height == 8 * 8
    assert found["n"].sum() == 2 * 8 * 14
    pairs = driver.output(joined)
    assert pairs.height == 8 * sum(len(range(max(0, end - 4), min(14, end))) ** 2 for end in range(2, 18, 2))
