"""Topics that are partitioned by the key that state is kept by: no exchange, the same results."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from thalweg.analytics import count, sum_
from thalweg.errors import ConfigurationError, OperatorFailed, PlanError
from thalweg.kafka.partitioners import partition_for
from thalweg.streams import App, DataStream, Interval, SessionWindow, TumblingWindow
from thalweg.streams.engine.exchange.by_record import PlacedDataflow
from thalweg.streams.testing import TestDriver

PARTITIONS = 3
USERS = [f"user-{number}" for number in range(12)]
SCHEMA = {"t": int, "user": str, "n": int}

events = st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, 60), st.integers(0, 9)), max_size=60)


def stream(**settings: Any) -> DataStream:
    settings = {"record_key": "user", **settings}
    return App("placed").stream("events", schema=SCHEMA, timestamp="t", watermark=3, idle_timeout=None, **settings)


def tumbling(source: DataStream) -> DataStream:
    return source.filter(pl.col("n") > 2).key_by("user").window(TumblingWindow(10)).aggregate(n=count())


def sessions_of_two_keys(source: DataStream) -> DataStream:
    keyed = source.with_columns(odd=pl.col("n") % 2).key_by("user", "odd")
    return keyed.window(SessionWindow(8)).aggregate(n=count(), total=sum_("n"))


def joined(source: DataStream) -> DataStream:
    odd, even = source.filter(pl.col("n") % 2 == 1), source.filter(pl.col("n") % 2 == 0)
    return odd.join(even, on="user", within=Interval(-5, 5), how="full")


def two_steps(source: DataStream) -> DataStream:
    small = source.key_by("user").window(TumblingWindow(5)).aggregate(n=count())
    return small.window(TumblingWindow(20)).aggregate(n=sum_("n"))


PLANS = [tumbling, sessions_of_two_keys, joined, two_steps]


def run(plan: Any, sent: Sequence[Any], partitioned: bool, rescale_at: int | None = None) -> pl.DataFrame:
    """Each user's own partition, with record_key; or the same partitions, without it and on one worker."""
    scaled: dict[str, Any] = {"workers": 1, "exchange": 1} if partitioned else {}
    driver = TestDriver(plan(stream() if partitioned else stream(record_key=None)), partitions=PARTITIONS, **scaled)
    assert isinstance(driver.dataflow, PlacedDataflow) == partitioned
    for number, (user, t, n) in enumerate(sent):
        if number == rescale_at:
            driver.restore(driver.snapshot(), workers=3)
        row = {"user": user, "t": t, "n": n}
        driver.send([row], partition=partition_for(user.encode(), PARTITIONS))
    driver.end()
    assert all(account.closes for account in driver.accounts().values())
    output = driver.output()
    return output.sort(output.columns)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
@settings(max_examples=15, derandomize=True, deadline=None)
@given(sent=events, rescale_at=st.integers(0, 40))
def test_rows_that_stay_where_they_are_give_the_same_results(plan: Any, sent: list[Any], rescale_at: int) -> None:
    assert_frame_equal(run(plan, sent, True, rescale_at), run(plan, sent, False))


@pytest.mark.parametrize(
    "plan",
    [
        lambda s: s.window(TumblingWindow(10)).aggregate(n=count()),
        lambda s: s.key_by("n").window(TumblingWindow(10)).aggregate(total=count()),
        lambda s: s.with_columns(user=pl.col("user").str.slice(0, 1)).key_by("user").aggregate(total=count()),
        lambda s: s.key_by("user").aggregate(n=count()).group_by("n").aggregate(users=count()),
    ],
    ids=["no key", "another key", "a changed column", "another key behind"],
)
def test_where_keys_are_elsewhere_rows_move(plan: Any) -> None:
    assert not isinstance(TestDriver(plan(stream()), exchange=2).dataflow, PlacedDataflow)


def test_rows_in_a_wrong_partition_are_dead_letters() -> None:
    driver = TestDriver(tumbling(stream()), partitions=PARTITIONS)
    for user in USERS:
        driver.send([{"user": user, "t": 1, "n": 5}] * 5, partition=partition_for(user.encode(), PARTITIONS))
    wrong = (partition_for(b"user-0", PARTITIONS) + 1) % PARTITIONS
    driver.send([{"user": "user-0", "t": 1, "n": 5}, {"user": None, "t": 1, "n": 5}], partition=wrong)
    letters = driver.dead_letters()
    assert letters["error_class"].to_list() == ["WrongPartition"] * 2
    assert letters["error_message"].to_list() == [
        f"'user' 'user-0' is in partition {wrong}, which is not its own by murmur2",
        "without 'user' it belongs to no partition",
    ]
    driver.end()
    assert driver.output()["n"].to_list() == [5] * len(USERS)
    assert all(account.closes for account in driver.accounts().values())


def test_a_topic_that_is_partitioned_otherwise_is_refused() -> None:
    rows = [{"user": user, "t": 1, "n": 5} for user in USERS * 2]
    with pytest.raises(OperatorFailed, match="not partitioned by 'user' with murmur2"):
        TestDriver(tumbling(stream()), partitions=PARTITIONS).send(rows, partition=0)


def test_librdkafkas_own_partitioner() -> None:
    driver = TestDriver(tumbling(stream(partitioner="crc32")), partitions=PARTITIONS)
    for user in USERS * 3:
        driver.send([{"user": user, "t": 1, "n": 5}], partition=zlib.crc32(user.encode()) % PARTITIONS)
    driver.end()
    assert driver.output()["n"].to_list() == [3] * len(USERS)
    assert driver.dead_letters().is_empty()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="use one of murmur2, crc32"):
        stream(partitioner="md5")
    with pytest.raises(ConfigurationError, match="give record_key too"):
        stream(record_key=None, partitioner="crc32")
    with pytest.raises(PlanError, match="did you mean 'user'"):
        stream(record_key="usr")
