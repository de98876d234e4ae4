"""Plans of window cases whose description says more than their structured fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from tests.conformance.trial import Fault, Trial
from tests.conformance.window_generic import Case, Plan, Streams, as_is, generic, standing, window_of
from thalweg.analytics import (
    all_true,
    any_true,
    average,
    bit_and,
    bit_or,
    bit_xor,
    collect,
    correlation,
    count,
    count_distinct,
    covariance,
    max_,
    min_,
    percentile,
    regression,
    stddev,
    sum_,
    variance,
)
from thalweg.streams import AfterCount, App, BatchFunction, Repeatedly, TumblingWindow, ValueState

col = pl.col
HOUR = 3_600_000


def _window_end_as_timestamp(case: Case, streams: Streams) -> Plan:
    stream = streams["cars"].window(window_of(case["window"])).aggregate(count=count())
    return stream, ["window_end", "count"], as_is


def _computed_key(case: Case, streams: Streams) -> Plan:
    user = pl.when(col("counter") % 10 == 0).then(0).otherwise(col("counter"))
    return generic(case, {"impulse": streams["impulse"].with_columns(user_id=user)})


def _merged_sinks(case: Case, streams: Streams) -> Plan:
    cars = streams["cars"]
    first = cars.filter((col("driver_id") == 100) & (col("event_type") == "pickup"))
    second = cars.filter((col("driver_id") == 101) & (col("event_type") == "dropoff"))
    return first.union(second), ["timestamp", "driver_id", "event_type", "location"], as_is


def _reinvoked(case: Case, streams: Streams) -> Plan:
    window = TumblingWindow(HOUR)
    pickups = streams["cars"].filter(col("event_type") == "pickup")
    busy = pickups.key_by("driver_id").window(window).aggregate(pickups=count()).filter(col("pickups") > 2)
    drivers = busy.key_by(hour=col("window_start")).window(window).aggregate(drivers=count_distinct("driver_id"))
    return drivers, ["window_start", "window_end", "drivers"], as_is


def chained(case: Case, batch_size: int | None, fault: Fault) -> pl.DataFrame:
    """Results "timed by their window end" are a stream of their own: through a topic, with its own watermark."""
    first, second = (window_of(spec) for spec in case["windows"])
    events = App("first").stream("events", timestamp="timestamp")
    means = Trial(
        events.key_by("id").window(first).aggregate(mean=average("value")), batch_size=batch_size, fault=fault
    )
    means.send(case["inputs"][0]["records"])
    topic = App("second").stream("means", timestamp="window_end").key_by("id")
    highest = Trial(topic.window(second).aggregate(max_mean=max_("mean")), batch_size=batch_size, fault=fault)
    highest.send(means.output().sort("window_end", maintain_order=True))  # several workers write in no order
    return highest.output()


def _unnested(case: Case, streams: Streams) -> Plan:
    return (
        *generic({**case, "columns": []}, streams)[:1],
        ["counter"],
        lambda f: f.select(counter="counters").explode("counter"),
    )


def _rows_with_session(case: Case, streams: Streams) -> Plan:
    session = window_of(case["window"])
    result = streams["events"].key_by("bar").window(session).aggregate(records=collect(pl.struct("tm", "foo")))
    columns = ["tm", "foo", "bar", "window_start", "last"]

    def finish(frame: pl.DataFrame) -> pl.DataFrame:
        last = (col("window_end") - case["window"]["gap_ms"]).alias("last")
        return frame.with_columns(last).explode("records").unnest("records")

    return result, columns, finish


def _lowest_of_hour(case: Case, streams: Streams) -> Plan:
    lowest = streams["events"].window(window_of(case["window"])).aggregate(foo=min_("foo"))
    return lowest, ["window_start", "foo"], as_is


def _most_active(case: Case, streams: Streams) -> Plan:
    counts = streams["cars"].key_by("driver_id").window(window_of(case["window"])).aggregate(count=count())
    best = counts.group_by("window_start", "window_end").top_n(1, by=["count", "driver_id"], rank="row_number")
    return best, ["window_start", "window_end", "driver_id", "count", "row_number"], standing


def _filtered_count(case: Case, streams: Streams) -> Plan:
    subtasks = streams["impulse"].aggregate(subtasks=count_distinct("subtask_index"))
    return subtasks.filter(col("subtasks") >= 1), ["subtasks"], as_is


def _every_aggregate(case: Case, streams: Streams) -> Plan:
    y, names = "driver_id", [column["name"] for column in case["columns"]]
    x = col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ").dt.epoch("ms") / 1000
    statistics = (
        streams["cars"]
        .key_by("event_type")
        .aggregate(
            avg_driver=average(y),
            bit_and_driver=bit_and(y),
            bit_or_driver=bit_or(y),
            bit_xor_driver=bit_xor(y),
            bool_and_driver=all_true(col(y) > 0),
            bool_or_driver=any_true(col(y) > 0),
            cnt=count(),
            max_driver=max_(y),
            median_driver=percentile(y, 50, exact=True),
            min_driver=min_(y),
            sum_driver=sum_(y),
            corr_driver_ts=correlation(y, x),
            covar_pop_driver_ts=covariance(y, x, ddof=0),
            covar_samp_driver_ts=covariance(y, x),
            stddev_driver=stddev(y),
            stddev_pop_driver=stddev(y, ddof=0),
            var_driver=variance(y),
            var_pop_driver=variance(y, ddof=0),
            line=regression(y, x),
        )
    )
    return statistics, names, lambda frame: _rounded(frame, case)


REGRESSION = {"avgx": "mean_x", "avgy": "mean_y"}


def _rounded(frame: pl.DataFrame, case: Case) -> pl.DataFrame:
    """The line's fields as columns of their own, floats to four decimals."""
    line = [column["name"] for column in case["columns"] if column["name"].startswith("regr_")]
    fields = {name: name.removeprefix("regr_") for name in line}
    parts = [col("line").struct.field(REGRESSION.get(of, of)).cast(pl.Float64).alias(n) for n, of in fields.items()]
    return frame.with_columns(parts).with_columns(pl.selectors.float().round(4))


def _ranks(case: Case, streams: Streams) -> Plan:
    ranked = streams["events"].in_order().key_by("bar").process_batches(Ranks)
    return ranked, ["foo", "row_number", "rank", "dense_rank"], as_is


class Ranks(BatchFunction):
    """Numbers, ranks and dense ranks in order of event time; of equal times, which come together, by id."""

    rows = ValueState(int, default=0)
    times = ValueState(int, default=0)

    def on_batch(self, frame: pl.DataFrame, ctx: Any) -> pl.DataFrame:
        events = frame.sort("__ts", "id").join(ctx.values(), on="bar")
        place = pl.int_range(1, pl.len() + 1).over("bar")
        ranked = events.select(
            "bar",
            "tm",
            "foo",
            row_number=col("rows") + place,
            rank=col("rows") + col("__ts").rank("min").over("bar").cast(pl.Int64),
            dense_rank=col("times") + col("__ts").rank("dense").over("bar").cast(pl.Int64),
        )
        ctx.set_values(ranked.group_by("bar").agg(rows=col("row_number").max(), times=col("dense_rank").max()))
        return ranked


def _session_per_row(case: Case, streams: Streams) -> Plan:
    """Sessions as they are after each record: what an earlier one said is taken back when the session grows."""
    window, names = window_of(case["window"]), ["tm", "foo"]
    sessions = streams["events"].key_by("bar").window(window, trigger=Repeatedly(AfterCount(1)))
    result = sessions.aggregate(records=collect(pl.struct(names)))

    def finish(frame: pl.DataFrame) -> pl.DataFrame:
        now = standing(frame, ["bar", "window_start", "window_end"])
        last = (col("window_end") - case["window"]["gap_ms"]).alias("last")
        return now.with_columns(last).explode("records").unnest("records")

    return result, ["tm", "foo", "bar", "window_start", "last"], finish


PLANS: dict[str, Callable[[Case, Streams], Plan]] = {
    "arroyo_every_aggregate": _every_aggregate,
    "arroyo_filter_updating_aggregates": _filtered_count,
    "arroyo_most_active_driver_last_hour": _most_active,
    "arroyo_most_active_driver_last_hour_unaligned": _most_active,
    "arroyo_reinvoke_window_function": _reinvoked,
    "arroyo_session_window": _computed_key,
    "arroyo_test_merge_sink": _merged_sinks,
    "arroyo_tight_watermark": _window_end_as_timestamp,
    "arroyo_unnest_in_view": _unnested,
    "rw_eowc_ranks_with_ties": _ranks,
    "rw_session_per_row": _session_per_row,
    "rw_eowc_session": _rows_with_session,
    "rw_eowc_tumble_top1": _lowest_of_hour,
}
