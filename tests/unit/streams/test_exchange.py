"""Rows that move through the exchange give what they would have given on one worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from thalweg.analytics import count, max_, sum_
from thalweg.streams import App, DataStream, SessionWindow, SlidingWindow, TumblingWindow
from thalweg.streams.testing import TestDriver

PARTITIONS = 3
Sent = tuple[int, int, str, str]

events = st.lists(
    st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 60), st.sampled_from("abcdefgh"), st.sampled_from("xyz")),
    max_size=60,
)


def stream(watermark: int = 3) -> DataStream:
    return App("exchange").stream("events", timestamp="t", watermark=watermark, idle_timeout=None)


def tumbling(source: DataStream) -> DataStream:
    return source.key_by("user").window(TumblingWindow(10)).aggregate(n=count(), last=max_("t"))


def sliding(source: DataStream) -> DataStream:
    return source.filter(pl.col("t") % 7 != 0).key_by("user", "site").window(SlidingWindow(12, 4)).aggregate(n=count())


def session(source: DataStream) -> DataStream:
    return source.key_by("site").window(SessionWindow(5)).aggregate(n=count(), total=sum_("t"))


def two_keys(source: DataStream) -> DataStream:
    per_user = source.key_by("user", "site").window(TumblingWindow(10)).aggregate(n=count())
    return per_user.key_by("site").window(TumblingWindow(20)).aggregate(users=count(), n=sum_("n"))


def no_key(source: DataStream) -> DataStream:
    return source.window(TumblingWindow(10)).aggregate(n=count())


def mixed(source: DataStream) -> DataStream:
    per_user = source.key_by("user").window(TumblingWindow(10)).aggregate(n=count()).select("user", t="window_end")
    return source.select("user", "t").union(per_user).key_by("user").window(TumblingWindow(20)).aggregate(n=count())


PLANS = [tumbling, sliding, session, two_keys, no_key, mixed]


def run(
    plan: Any, sent: Sequence[Sent], crash_at: int | None = None, **settings: Any
) -> tuple[pl.DataFrame, list[Any]]:
    driver = TestDriver(plan(stream()), partitions=PARTITIONS, **settings)
    snapshots, late = [], []
    for number, (partition, t, user, site) in enumerate(sent):
        if number == crash_at:
            snapshots.append(driver.snapshot())
            driver.restore(*snapshots)
        driver.send([{"t": t, "user": user, "site": site}], partition=partition)
        late += driver.late().rows()
        if number % 5 == 0:
            snapshots.append(driver.snapshot(full=number % 10 == 0))
    driver.end()
    output = driver.output()
    return output.sort(output.columns), sorted(late, key=repr)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
@settings(max_examples=25, derandomize=True, deadline=None)
@given(sent=events, partitions=st.sampled_from([1, 2, 5]), crash_at=st.none() | st.integers(0, 40))
def test_an_exchange_changes_no_result(plan: Any, sent: list[Sent], partitions: int, crash_at: int | None) -> None:
    expected, late = run(plan, sent)
    output, late_too = run(plan, sent, crash_at, exchange=partitions)
    assert_frame_equal(output, expected, check_row_order=True)
    if plan is not two_keys and plan is not mixed:
        assert late_too == late
