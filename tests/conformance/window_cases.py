"""Window cases through the public API and the test driver.

A case's structured fields make its plan; where its description says more, `PLANS` has it. Results are looked up by
column name: a timestamp column that is no aggregate and no key is a window bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from tests.conformance.join_cases import run_join_case
from tests.conformance.not_served import NotServed
from thalweg.analytics import average, collect, count, count_distinct, max_, min_, sum_
from thalweg.streams import App, DataStream, GlobalWindow, SessionWindow, SlidingWindow, TumblingWindow
from thalweg.streams.testing import TestDriver

Case = dict[str, Any]
Streams = dict[str, DataStream]
col = pl.col

AGGREGATES = {
    "count": lambda of: count(of) if of else count(),
    "sum": sum_,
    "avg": average,
    "mean": average,
    "min": min_,
    "max": max_,
    "count_distinct": count_distinct,
    "collect_list": collect,
}
STARTS, ENDS = {"window_start", "start", "hour", "month"}, {"window_end", "end"}
HOUR = 3_600_000


def run_window_case(case: Case, inputs: Path, batch_size: int | None, *, crash: bool = False) -> list[Any]:
    """The rows of a case in its column order; for `steps` one list of rows per `expect`.

    Args:
        crash: everything but the committed state is lost on the way (join cases only, so far).

    Raises:
        NotServed: the case needs a feature that is not built yet.
    """
    name = case["case"]
    if name in NOT_YET:
        raise NotServed(NOT_YET[name])
    if case.get("join"):
        return run_join_case(case, inputs, batch_size, lambda frame, columns: _rows(case, frame, columns), crash=crash)
    if name == "proton_chained_tumble":
        return _chained(case, case["inputs"][0]["records"], batch_size)
    streams = _streams(case)
    plan, columns, finish = PLANS.get(name, _generic)(case, streams)
    driver = TestDriver(plan, batch_size=batch_size)
    if case["emission"] == "steps":
        return _steps(case, driver, columns, finish)
    for source in case["inputs"]:
        rows = source.get("records")
        if rows is None:
            rows = [json.loads(line) for line in (inputs / source["file"]).read_text().splitlines()]
        driver.send(rows, source=source["stream"])
    if case["emission"] != "watermark_only":
        driver.end()
    return _rows(case, finish(driver.output()), columns)


def _streams(case: Case) -> Streams:
    app = App(f"case-{case['case']}")
    return {
        source["stream"]: app.stream(
            source["stream"], timestamp=source.get("time_column"), watermark=source.get("lateness_ms", 0)
        )
        for source in case["inputs"]
    }


def _steps(case: Case, driver: TestDriver, columns: list[str], finish: Finish) -> list[Any]:
    seen: list[pl.DataFrame] = []
    found = []
    for step in case["steps"]:
        if "send" in step:
            driver.send(step["send"]["records"], source=step["send"]["stream"])
            seen.append(driver.output())
        if "expect" in step:
            frames = [frame for frame in seen if frame.height]
            whole = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
            found.append(_rows(case, finish(whole) if frames else whole, columns))
    return found


def _rows(case: Case, frame: pl.DataFrame, columns: list[str]) -> list[list[Any]]:
    if not frame.height:
        return []
    if case["emission"] == "final_state" and not case.get("join"):
        key = [name for name in frame.columns if name in _key_columns(case)]
        last = frame.unique(key, keep="last", maintain_order=True) if key else frame.tail(1)
        frame = last.filter(pl.col("__op") != "delete")
    if case["emission"] == "closed_per_key":
        key = _key_columns(case)
        latest = pl.col("window_start").max().over(key) if key else pl.col("window_start").max()
        frame = frame.filter(pl.col("window_start") < latest)
    types = [column["type"] for column in case["columns"]]
    rows = frame.select(columns).rows()
    return [[_value(value, kind) for value, kind in zip(row, types, strict=True)] for row in rows]


def _value(value: Any, kind: str) -> Any:
    if kind != "timestamp" or value is None or isinstance(value, str):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _key_columns(case: Case) -> list[str]:
    return ["counter_mod"] if case.get("keys") == ["counter % 5"] else case.get("keys") or []


# -- plans

Finish = Callable[[pl.DataFrame], pl.DataFrame]
Plan = tuple[DataStream, list[str], Finish]


def _as_is(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def _window(spec: Case) -> TumblingWindow | SlidingWindow | SessionWindow:
    if spec["kind"] == "tumbling":
        return TumblingWindow(spec["size_ms"], spec.get("offset_ms", 0))
    if spec["kind"] == "hopping":
        return SlidingWindow(spec["size_ms"], spec["slide_ms"], spec.get("offset_ms", 0))
    if spec["kind"] == "session":
        return SessionWindow(spec["gap_ms"], spec.get("max_ms"))
    raise NotServed(f"windows of kind {spec['kind']!r}")


def _aggregates(case: Case) -> dict[str, Any]:
    made = {}
    for one in case.get("aggregates") or ():
        if one["fn"] not in AGGREGATES:
            raise NotServed(f"the aggregate {one['fn']!r}")
        made[one["out"]] = AGGREGATES[one["fn"]](one.get("of"))
    return made


def _columns(case: Case) -> list[str]:
    """Which of the result's columns each of the case's columns is."""
    known = {*(case.get("keys") or ()), *(one["out"] for one in case.get("aggregates") or ())}
    names = []
    for column in case["columns"]:
        name = column["name"]
        if name not in known and name in STARTS:
            name = "window_start"
        elif name not in known and name in ENDS:
            name = "window_end"
        elif name not in known:
            raise NotServed(f"the column {name!r}, which the structured fields do not explain")
        names.append(name)
    return names


def _keyed(stream: DataStream, keys: list[str]) -> DataStream:
    return stream.key_by(*keys) if keys else stream


def _generic(case: Case, streams: Streams) -> Plan:
    """One stream, one window, aggregates: as the structured fields say."""
    if case.get("join") or len(streams) != 1 or case.get("windows"):
        raise NotServed("joins" if case.get("join") or len(streams) != 1 else "chained windows by structured fields")
    if not case.get("aggregates"):
        raise NotServed("a case that its structured fields do not explain")
    columns = _columns(case)
    window = _window(case["window"]) if case.get("window") else GlobalWindow()
    stream = _keyed(next(iter(streams.values())), case.get("keys") or [])
    return stream.window(window).aggregate(**_aggregates(case)), columns, _as_is


def _filtered(predicate: pl.Expr) -> Callable[[Case, Streams], Plan]:
    def plan(case: Case, streams: Streams) -> Plan:
        return _generic(case, {name: stream.filter(predicate) for name, stream in streams.items()})

    return plan


def _window_end_as_timestamp(case: Case, streams: Streams) -> Plan:
    stream = streams["cars"].window(_window(case["window"])).aggregate(count=count())
    return stream, ["window_end", "count"], _as_is


def _computed_key(case: Case, streams: Streams) -> Plan:
    user = pl.when(col("counter") % 10 == 0).then(0).otherwise(col("counter"))
    return _generic(case, {"impulse": streams["impulse"].with_columns(user_id=user)})


STATISTICS = {
    "min": min_("counter"),
    "max": max_("counter"),
    "sum": sum_("counter"),
    "count": count(),
    "avg": average("counter"),
}


def _updating(case: Case, streams: Streams) -> Plan:
    return streams["impulse"].aggregate(**STATISTICS), list(STATISTICS), _as_is


def _updating_by_key(case: Case, streams: Streams) -> Plan:
    keyed = streams["impulse"].with_columns(counter_mod=col("counter") % 5).key_by("counter_mod")
    return keyed.aggregate(**STATISTICS), ["counter_mod", *STATISTICS], _as_is


def _merged_sinks(case: Case, streams: Streams) -> Plan:
    cars = streams["cars"]
    first = cars.filter((col("driver_id") == 100) & (col("event_type") == "pickup"))
    second = cars.filter((col("driver_id") == 101) & (col("event_type") == "dropoff"))
    return first.union(second), ["timestamp", "driver_id", "event_type", "location"], _as_is


def _reinvoked(case: Case, streams: Streams) -> Plan:
    window = TumblingWindow(HOUR)
    pickups = streams["cars"].filter(col("event_type") == "pickup")
    busy = pickups.key_by("driver_id").window(window).aggregate(pickups=count()).filter(col("pickups") > 2)
    drivers = busy.key_by(hour=col("window_start")).window(window).aggregate(drivers=count_distinct("driver_id"))
    return drivers, ["window_start", "window_end", "drivers"], _as_is


def _chained(case: Case, records: list[Case], batch_size: int | None) -> list[Any]:
    """Results "timed by their window end" are a stream of their own: through a topic, with its own watermark."""
    first, second = (_window(spec) for spec in case["windows"])
    events = _streams(case)["events"]
    means = TestDriver(events.key_by("id").window(first).aggregate(mean=average("value")), batch_size=batch_size)
    means.send(records)
    topic = App("second").stream("means", timestamp="window_end").key_by("id")
    highest = TestDriver(topic.window(second).aggregate(max_mean=max_("mean")), batch_size=batch_size)
    highest.send(means.output())
    return _rows(case, highest.output(), ["id", "max_mean", "window_end"])


def _unnested(case: Case, streams: Streams) -> Plan:
    return (
        *_generic({**case, "columns": []}, streams)[:1],
        ["counter"],
        lambda f: f.select(counter="counters").explode("counter"),
    )


def _rows_with_window(case: Case, streams: Streams) -> Plan:
    names = ["row_id", "uid", "created_at"]
    result = streams["events"].window(_window(case["window"])).aggregate(records=collect(pl.struct(names)))
    return result, [*names, "window_start", "window_end"], lambda f: f.explode("records").unnest("records")


def _rows_with_session(case: Case, streams: Streams) -> Plan:
    session = _window(case["window"])
    result = streams["events"].key_by("bar").window(session).aggregate(records=collect(pl.struct("tm", "foo")))
    columns = ["tm", "foo", "bar", "window_start", "last"]

    def finish(frame: pl.DataFrame) -> pl.DataFrame:
        last = (col("window_end") - case["window"]["gap_ms"]).alias("last")
        return frame.with_columns(last).explode("records").unnest("records")

    return result, columns, finish


def _tumble_of_foo(name: str, aggregate: Any) -> Callable[[Case, Streams], Plan]:
    def plan(case: Case, streams: Streams) -> Plan:
        stream = streams["events"].window(_window(case["window"])).aggregate(**{name: aggregate})
        return stream, ["window_start", name], _as_is

    return plan


def _in_order(case: Case, streams: Streams) -> Plan:
    return streams["events"].in_order(), [column["name"] for column in case["columns"]], _as_is


PLANS: dict[str, Callable[[Case, Streams], Plan]] = {
    "arroyo_aggregates": _updating,
    "arroyo_grouped_aggregates": _updating_by_key,
    "arroyo_reinvoke_window_function": _reinvoked,
    "arroyo_session_window": _computed_key,
    "arroyo_test_merge_sink": _merged_sinks,
    "arroyo_tight_watermark": _window_end_as_timestamp,
    "arroyo_unnest_in_view": _unnested,
    "proton_session_count_filtered": _filtered(col("id") != "dev4"),
    "proton_tumble_batch_over_windows": _filtered(col("value") > 50),
    "rw_eowc_session": _rows_with_session,
    "rw_eowc_sorted_release": _in_order,
    "rw_eowc_tumble_max": _tumble_of_foo("max_foo", max_("foo")),
    "rw_eowc_tumble_top1": _tumble_of_foo("foo", min_("foo")),
    "rw_hop_offset13_rows": _rows_with_window,
    "rw_tumble_offset13_rows": _rows_with_window,
}

NOT_YET = {
    "arroyo_debezium_pass_through": "change streams as input",
    "arroyo_filter_updating_aggregates": "filters on a changelog",
    "arroyo_every_aggregate": "correlation, regression and bitwise aggregates",
    "arroyo_most_active_driver_last_hour": "top n per window",
    "arroyo_most_active_driver_last_hour_unaligned": "top n per window",
    "rw_eowc_ranks_with_ties": "ranks",
    "rw_session_per_row": "sessions as a changelog",
}
