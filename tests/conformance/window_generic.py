"""Window cases by their structured fields alone: streams, windows, keys, aggregates, columns.

Keys, inputs of aggregates, and filters may be SQL expressions. A timestamp column that is no aggregate, no key and no
column of the records is a window bound. Without aggregates each record comes out with its window.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import polars as pl

from tests.conformance.not_served import NotServed
from thalweg import analytics as an
from thalweg.streams import App, DataStream, SessionWindow, SlidingWindow, TumblingWindow

Case = dict[str, Any]
Streams = dict[str, DataStream]
Finish = Callable[[pl.DataFrame], pl.DataFrame]
Plan = tuple[DataStream, list[str], Finish]

ONE: dict[str, Callable[..., Any]] = {
    "count": an.count,
    "sum": an.sum_,
    "avg": an.average,
    "mean": an.average,
    "min": an.min_,
    "max": an.max_,
    "count_distinct": an.count_distinct,
    "collect_list": an.collect,
    "array_agg": an.collect,
    "collect": an.collect,
    "collect_set": lambda of: an.collect(of, distinct=True),
    "median": lambda of: an.percentile(of, 50, exact=True),
    "stddev": an.stddev,
    "stddev_samp": an.stddev,
    "stddev_pop": lambda of: an.stddev(of, ddof=0),
    "variance": an.variance,
    "var": an.variance,
    "var_samp": an.variance,
    "var_pop": lambda of: an.variance(of, ddof=0),
    "first": an.first,
    "first_value": an.first,
    "earliest": an.first,
    "last": an.last,
    "last_value": an.last,
    "latest": an.last,
    "bit_and": an.bit_and,
    "bit_or": an.bit_or,
    "bit_xor": an.bit_xor,
    "bool_and": an.all_true,
    "bool_or": an.any_true,
}
TWO: dict[str, Callable[..., Any]] = {
    "corr": an.correlation,
    "covar_pop": lambda y, x: an.covariance(y, x, ddof=0),
    "covar_samp": an.covariance,
    "max_by": lambda value, by: an.last(value, by=by),
    "min_by": lambda value, by: an.first(value, by=by),
}
STARTS = {"window_start", "start", "hour", "month", "minute", "day", "week", "wstart"}
ENDS = {"window_end", "end", "wend"}


def streams_of(case: Case) -> Streams:
    """The case's inputs, filtered where it says so."""
    app = App(f"case-{case['case']}")
    made = {}
    for source in case["inputs"]:
        stream = app.stream(
            source["stream"], timestamp=source.get("time_column"), watermark=source.get("lateness_ms", 0)
        )
        if source.get("format") == "change":
            key = source["key"]
            stream = stream.changes(*([key] if isinstance(key, str) else key))
        made[source["stream"]] = stream
    return made


def records_of(case: Case, inputs: Path) -> dict[str, list[Case]]:
    """All records of each stream, those that come in steps included."""
    sent = [step["send"] for step in case.get("steps") or () if step.get("send")]
    found = {}
    for source in case["inputs"]:
        if source.get("records") is not None:
            rows = list(source["records"])
        elif source.get("file"):
            rows = [json.loads(line) for line in (inputs / source["file"]).read_text().splitlines()]
        else:
            rows = [record for send in sent if send["stream"] == source["stream"] for record in send["records"]]
        found[source["stream"]] = rows
    return found


def window_of(spec: Case) -> TumblingWindow | SlidingWindow | SessionWindow:
    """The window that the fields describe."""
    kind = spec["kind"]
    if kind == "tumbling":
        return TumblingWindow(spec["size_ms"], spec.get("offset_ms", 0))
    if kind in ("hopping", "sliding"):
        return SlidingWindow(spec["size_ms"], spec["slide_ms"], spec.get("offset_ms", 0))
    if kind == "session":
        return SessionWindow(spec["gap_ms"], spec.get("max_ms"))
    raise NotServed(f"windows of kind {kind!r}")


def aggregates_of(case: Case) -> dict[str, Any]:
    """The aggregates by the name of their result."""
    made = {}
    for one in case.get("aggregates") or ():
        of, fn = one.get("of"), one["fn"]
        inputs = [] if of is None else of if isinstance(of, list) else [of]
        table = TWO if fn in TWO else ONE
        if fn not in table:
            raise NotServed(f"the aggregate {fn!r}")
        if fn in TWO and len(inputs) == 1:
            inputs = [part.strip() for part in inputs[0].split(",")]
        made[one["out"]] = table[fn](*(_input(text) for text in inputs))
    return made


def _input(text: str) -> Any:
    return text if re.fullmatch(r"\w+", text) else pl.sql_expr(text)


def keys_of(case: Case) -> list[tuple[str, pl.Expr | None]]:
    """The key columns: a name, and the expression where it is computed: then the case's own name for it."""
    texts = case.get("keys") or []
    known = {*texts, *(one["out"] for one in case.get("aggregates") or ()), *STARTS, *ENDS}
    unknown = [c["name"] for c in case["columns"] if c["name"] not in known and c["type"] != "timestamp"]
    made: list[tuple[str, pl.Expr | None]] = []
    for number, text in enumerate(texts):
        if re.fullmatch(r"\w+", text):
            made.append((text, None))
        else:
            made.append((unknown.pop(0) if unknown else f"key_{number}", pl.sql_expr(text)))
    return made


def key_columns(case: Case) -> list[str]:
    """Which columns of the result tell its rows apart, where it changes."""
    names = [name for name, _ in keys_of(case)]
    source = case["inputs"][0]
    if not names and source.get("format") == "change" and not case.get("aggregates"):
        return [source["key"]] if isinstance(source["key"], str) else list(source["key"])
    return names


def columns_of(case: Case, known: set[str]) -> list[str]:
    """Which of the result's columns each of the case's columns is."""
    names = []
    for column in case["columns"]:
        name = column["name"]
        if name not in known and name in ENDS:
            name = "window_end"
        elif name not in known and (name in STARTS or column["type"] == "timestamp"):
            name = "window_start"
        elif name not in known:
            raise NotServed(f"the column {name!r}, which the structured fields do not explain")
        names.append(name)
    return names


def as_is(frame: pl.DataFrame) -> pl.DataFrame:
    """No change."""
    return frame


def generic(case: Case, streams: Streams) -> Plan:
    """One stream (or several together), a window or none, aggregates or whole records."""
    if case.get("windows"):
        raise NotServed("chained windows by structured fields")
    every = list(streams.values())
    stream = reduce(lambda a, b: a.union(b), every)
    if case.get("filter"):
        stream = stream.filter(pl.sql_expr(case["filter"]))
    keys = keys_of(case)
    computed = {name: expr for name, expr in keys if expr is not None}
    stream = stream.with_columns(**computed) if computed else stream
    if not case.get("aggregates"):
        return _whole_records(case, stream, [name for name, _ in keys])
    aggregates = aggregates_of(case)
    names = [name for name, _ in keys]
    columns = columns_of(case, {*names, *aggregates})
    if case.get("window"):
        keyed = stream.key_by(*names) if names else stream
        result = keyed.window(window_of(case["window"])).aggregate(**aggregates)
    else:
        result = stream.group_by(*names).aggregate(**aggregates)
    having = case.get("having")
    return result.filter(pl.sql_expr(having)) if having else result, columns, as_is


def _whole_records(case: Case, stream: DataStream, keys: list[str]) -> Plan:
    names = [column["name"] for column in case["columns"]]
    if not case.get("window"):
        return stream.in_order() if "sort_by_event_time" in case.get("features", ()) else stream, names, as_is
    fields = [name for name in names if name not in STARTS | ENDS]
    keyed = stream.key_by(*keys) if keys else stream
    packed = [name for name in fields if name not in keys]
    result = keyed.window(window_of(case["window"])).aggregate(records=an.collect(pl.struct(packed)))
    return result, columns_of(case, set(fields)), lambda f: f.explode("records").unnest("records")


def standing(frame: pl.DataFrame, identity: list[str] | None = None) -> pl.DataFrame:
    """What stands after all changes: by their identity, or as a bag of whole rows (None)."""
    if "__op" not in frame.columns:
        return frame
    if identity is not None:
        last = frame.unique(identity, keep="last", maintain_order=True) if identity else frame.tail(1)
        return last.filter(pl.col("__op") != "delete").drop("__op")
    sign = pl.when(pl.col("__op") == "delete").then(-1).otherwise(1).alias("__sign")
    user = [name for name in frame.columns if name != "__op"]
    net = frame.with_columns(sign).group_by(user, maintain_order=True).agg(pl.col("__sign").sum())
    return net.filter(pl.col("__sign") > 0).select(pl.exclude("__sign").repeat_by("__sign").explode())


def only(step: Case, case: Case, whole: pl.DataFrame) -> pl.DataFrame:
    """The rows that an expectation covers: those of one time (of a join: of the left row), where it names one."""
    if step.get("only_time") is None or not whole.height:
        return whole
    time = case["inputs"][0]["time_column"]
    return whole.filter(pl.col(time if time in whole.columns else f"left_{time}") == step["only_time"])


def value_of(value: Any, kind: str) -> Any:
    """A value as the cases write it."""
    if isinstance(value, Decimal):
        return float(value)
    if kind != "timestamp" or value is None or isinstance(value, str):
        return value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
