"""Join cases through the public API and the test driver.

A case's structured fields make its plan: a column named `left_x` or `l_x` is column x of the left stream, likewise on
the right; one that only one side's records have is that side's; a timestamp that is neither is a bound of the window.
Where the description says more, `PLANS` has it.

The references judge lateness by the join's watermark, the lower of both inputs, which has not begun while one input is
still unread; we judge a row by its own partition's (decision 0001). So cases that give all results at the end allow as
much lateness as their input is long; cases that go step by step allow none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from tests.conformance.described import explained
from tests.conformance.not_served import NotServed
from tests.conformance.trial import Fault, Trial
from tests.conformance.window_generic import ENDS, STARTS, only, records_of, streams_of, window_of
from thalweg.analytics import count, count_distinct
from thalweg.streams import DataStream, Interval, SessionWindow, TumblingWindow
from thalweg.streams.testing import current_rows

Case = dict[str, Any]
Streams = dict[str, DataStream]
Plan = tuple[DataStream, list[str]]
"""The result, and which of its columns each of the case's columns is."""
col = pl.col

PREFIXES = {"left_": "left", "l_": "left", "right_": "right", "r_": "right"}


class JoinRun:
    """A join case on a test driver, fed bit by bit."""

    def __init__(self, case: Case, inputs: Path, batch_size: int | None, fault: Fault) -> None:
        self.case = case
        self.records = records_of(case, inputs)
        self.streams: Streams = streams_of(case)
        self.stream, self.columns = PLANS.get(case["case"], _generic)(case, self)
        self.trial = Trial(self.stream, batch_size=batch_size, fault=fault)
        self.seen: list[pl.DataFrame] = []

    def fields(self, stream: str) -> set[str]:
        """The columns of a stream."""
        rows = self.records[stream]
        changes = any(source["stream"] == stream and source.get("format") for source in self.case["inputs"])
        if changes:
            rows = [row[side] for row in rows for side in ("before", "after") if row.get(side)]
        return {name for row in rows for name in row}

    @property
    def lateness(self) -> int | None:
        """How late the join lets rows be: see above."""
        timed = all(source.get("time_column") for source in self.case["inputs"])
        if self.case["emission"] in ("steps", "watermark_only") or not timed:
            return None
        times = [
            datetime.fromisoformat(record[source["time_column"]]).timestamp() * 1000
            for source in self.case["inputs"]
            for record in self.records[source["stream"]]
        ]
        return int(max(times) - min(times)) + 1 if times else 0

    def send(self, stream: str, records: list[Case], *, whole: bool = True) -> None:
        """Gives records to one stream and takes what comes out; not `whole`: the fault happens within them."""
        for part in [records] if whole else self.trial.parts(records):
            self.trial.driver.send(part, source=stream)
            self.seen.append(self.trial.output())

    def end(self) -> None:
        """Lets the watermark go to the end of time."""
        self.trial.driver.end()
        self.seen.append(self.trial.output())

    def result(self) -> pl.DataFrame:
        """All that came out, with every column that the case asks for."""
        frames = [frame for frame in self.seen if frame.height]
        if not frames:
            return pl.DataFrame(schema=dict.fromkeys(self.columns, pl.Null()))
        whole = pl.concat(frames, how="diagonal_relaxed")
        whole = current_rows(whole, self.stream.key_columns)
        return whole.with_columns([pl.lit(None).alias(n) for n in self.columns if n not in whole.columns])


def run_join_case(
    case: Case, inputs: Path, batch_size: int | None, rows: Callable[[pl.DataFrame, list[str]], Any], *, fault: Fault
) -> list[Any]:
    """The rows of a case (by `rows`, which brings a frame into the case's form); for `steps` one list per `expect`.

    Args:
        fault: what happens within each input (between steps, where there are any).
    """
    run = JoinRun(case, inputs, batch_size, fault)
    if case["emission"] == "steps":
        found = []
        for step in case["steps"]:
            if step.get("send"):
                run.send(step["send"]["stream"], step["send"]["records"])
            if step.get("expect") is not None:
                found.append(rows(only(step, case, run.result()), run.columns))
            run.trial.interrupt()
        return found
    for name, records in run.records.items():
        run.send(name, records, whole=False)
    if case["emission"] != "watermark_only":
        run.end()
    return rows(run.result(), run.columns)  # type: ignore[no-any-return]


# -- plans


def _generic(case: Case, run: JoinRun) -> Plan:
    """Two streams, as the structured fields say."""
    if len(case["inputs"]) != 2:
        raise NotServed(f"the join of {case['case']!r}, which its structured fields do not explain")
    explained(case, set().union(*(run.fields(source["stream"]) for source in case["inputs"])))
    if case.get("filter") or case.get("having") or case.get("aggregates") or case.get("windows"):
        raise NotServed(f"{case['case']}: filters, aggregates or several windows with a join, by structured fields")
    if case.get("window"):
        return _by_window(case, run)
    if case["join"].get("bound"):
        return _by_interval(case, run)
    left, right, columns, keys = _sides(case, run)
    return left.join(right, on=keys, how=case["join"]["kind"]), columns


def key_pairs_of(case: Case) -> dict[str, str]:
    """Left key column → right key column, as `on` says and `keys` may repeat."""
    pairs: dict[str, str] = {}
    for part in re.split(r",\s*|\s+and\s+", case["join"]["on"]):
        left, _, right = (name.strip() for name in part.partition("="))
        left, right = left.removeprefix("left."), (right or left).removeprefix("right.")
        if not re.fullmatch(r"\w+", left) or not re.fullmatch(r"\w+", right):
            raise NotServed(f"a join on {case['join']['on']!r}")
        if left != "window":
            pairs[left] = right
    keys = case.get("keys") or []
    if not {*keys} <= {*pairs, *pairs.values()}:
        raise NotServed(f"a join on {case['join']['on']!r} with the keys {keys}")
    return pairs


def _sides(case: Case, run: JoinRun) -> tuple[DataStream, DataStream, list[str], dict[str, str]]:
    """Both streams with the columns that are asked for, under names that say where they are from."""
    names = [source["stream"] for source in case["inputs"]]
    keys = key_pairs_of(case)
    fields = dict(zip(("left", "right"), map(run.fields, names), strict=True))
    wanted: dict[str, list[str]] = {"left": [], "right": []}
    columns = [_column(column["name"], keys, wanted, fields) for column in case["columns"]]
    sides = []
    for side, name, on in zip(("left", "right"), names, (keys, keys.values()), strict=True):
        parts = {f"{side}_{column}": col(column) for column in wanted[side]}
        sides.append(run.streams[name].select(**{f"key_{side}_{key}": col(key) for key in on}, **parts))
    left, right = sides
    return left, right, columns, {f"key_left_{one}": f"key_right_{other}" for one, other in keys.items()}


def _column(name: str, keys: dict[str, str], wanted: dict[str, list[str]], fields: dict[str, set[str]]) -> str:
    for prefix, side in PREFIXES.items():
        of = name.removeprefix(prefix)
        if of != name and (of in fields[side] or not fields[side]):
            wanted[side].append(of)
            return f"{side}_{of}"
    if name in keys:
        return f"key_left_{name}"
    having = [side for side in fields if name in fields[side]]
    if len(having) == 1:
        wanted[having[0]].append(name)
        return f"{having[0]}_{name}"
    if name in STARTS | ENDS:
        return "window_start" if name in STARTS else "window_end"
    raise NotServed(f"the column {name!r}, which the structured fields do not explain")


def _by_window(case: Case, run: JoinRun) -> Plan:
    window = window_of(case["window"])
    left, right, columns, keys = _sides(case, run)
    groups = all(column.startswith(("key_", "window_")) for column in columns)
    if groups and not isinstance(window, SessionWindow):  # groups are joined, not rows
        left, right = (
            side.key_by(*names).window(window).aggregate(**{f"rows_{name}": count()})
            for side, names, name in ((left, list(keys), "left"), (right, list(keys.values()), "right"))
        )
        joined = left.join(
            right, on={**keys, "window_start": "window_start"}, how=case["join"]["kind"], within=Interval(0, 0)
        )
        return joined, columns
    return left.join(right, on=keys, how=case["join"]["kind"], window=window, allowed_lateness=run.lateness), columns


def _by_interval(case: Case, run: JoinRun) -> Plan:
    join = case["join"]
    left, right, columns, keys = _sides(case, run)
    times = [f"{side}.{source['time_column']}" for side, source in zip(("left", "right"), case["inputs"], strict=True)]
    if join["bound"] not in (" - ".join(times), " - ".join(times[::-1])):
        raise NotServed(f"a join with a bound on {join['bound']!r}")
    lower, upper = join.get("lower_ms"), join.get("upper_ms")
    lower_in, upper_in = join.get("lower_inclusive", True), join.get("upper_inclusive", True)
    if join["bound"].startswith("right"):  # right time - left time: the same the other way round
        lower, upper = (None if bound is None else -bound for bound in (upper, lower))
        lower_in, upper_in = upper_in, lower_in
    closed = {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "none"}
    within = Interval(lower, upper, closed=closed[lower_in, upper_in])
    joined = left.join(right, on=keys, how=join["kind"], within=within, allowed_lateness=run.lateness)
    return joined.in_order() if "emit_on_close" in case.get("features", ()) else joined, columns


def _drivers_and_pickups(case: Case, run: JoinRun) -> Plan:
    window = TumblingWindow(case["window"]["size_ms"], case["window"].get("offset_ms", 0))

    def drivers(event: str, name: str) -> DataStream:
        cars = run.streams["cars"].filter(col("event_type") == event)
        return cars.window(window).aggregate(**{name: count_distinct("driver_id")})

    joined = drivers("dropoff", "drivers").join(
        drivers("pickup", "pickups"), on=["window_start"], how=case["join"]["kind"], within=Interval(0, 0)
    )
    return joined, ["window_start", "drivers", "pickups"]


def _left_join_of_counts(case: Case, run: JoinRun) -> Plan:
    few = run.streams["impulse"].filter(col("counter") < 3)
    counts = few.key_by(counter_mod_2=col("counter") % 2).aggregate(right_count=count())
    joined = few.select("counter").join(
        counts.with_columns(n=col("right_count")), on={"counter": "n"}, how=case["join"]["kind"]
    )
    return joined, ["counter", "counter_mod_2", "right_count"]


PLANS: dict[str, Callable[[Case, JoinRun], Plan]] = {
    "arroyo_updating_left_join": _left_join_of_counts,
    "arroyo_windowed_inner_join": _drivers_and_pickups,
    "arroyo_windowed_outer_join": _drivers_and_pickups,
}
