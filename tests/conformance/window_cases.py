"""Window cases through the public API and the test driver.

A case's structured fields make its plan (`window_generic`); where its description says more, `window_plans` has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from tests.conformance.described import explained
from tests.conformance.join_cases import run_join_case
from tests.conformance.not_served import NotServed
from tests.conformance.shapes import WindowCase, known
from tests.conformance.trial import Fault, Trial
from tests.conformance.window_generic import (
    Case,
    Finish,
    generic,
    key_columns,
    only,
    records_of,
    standing,
    streams_of,
    value_of,
)
from tests.conformance.window_plans import PLANS, chained

EMISSIONS = frozenset({"final", "final_state", "watermark_only", "closed_per_key", "steps"})


def run_window_case(case: Case, inputs: Path, batch_size: int | None, *, fault: Fault = None) -> list[Any]:
    """The rows of a case in its column order; for `steps` one list of rows per `expect`.

    Args:
        fault: what happens within each input; between all steps, where there are any.

    Raises:
        NotServed: the case needs what its structured fields do not say, or what is not built.
    """
    known(case, WindowCase)
    if case["emission"] not in EMISSIONS:
        raise NotServed(f"{case['case']}: emission {case['emission']!r}; there are {', '.join(sorted(EMISSIONS))}")
    if "per_key_time" in case.get("features", ()):
        return _each_key_apart(case, inputs, batch_size, fault)
    if case.get("join"):
        return run_join_case(case, inputs, batch_size, lambda frame, columns: _rows(case, frame, columns), fault=fault)
    if case["case"] == "proton_chained_tumble":
        return _rows(case, chained(case, batch_size, fault), ["id", "max_mean", "window_end"])
    records = records_of(case, inputs)
    if case["case"] not in PLANS:
        case = explained(case, {name for rows in records.values() for row in rows for name in row})
    plan, columns, finish = PLANS.get(case["case"], generic)(case, streams_of(case))
    trial = Trial(plan, batch_size=batch_size, fault=fault)
    if case["emission"] == "steps":
        return _steps(case, trial, columns, finish)
    for name, rows in records.items():
        trial.send(rows, source=name)
    if case["emission"] != "watermark_only":
        trial.driver.end()
    return _rows(case, finish(trial.output()), columns)


def _each_key_apart(case: Case, inputs: Path, batch_size: int | None, fault: Fault) -> list[Any]:
    """Each key has a time of its own: as if the records of each were a stream of their own."""
    keys = case.get("keys") or []
    records = records_of(case, inputs)
    if not keys or not all(name in row for rows in records.values() for row in rows for name in keys):
        raise NotServed(f"{case['case']}: a time of its own for each of {keys}, which are no fields of the records")

    def place(row: Case) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    def of(one: tuple[Any, ...], rows: list[Case]) -> list[Case]:
        return [row for row in rows if place(row) == one]

    results = []
    for one in dict.fromkeys(place(row) for rows in records.values() for row in rows):
        apart = {**case, "features": [name for name in case["features"] if name != "per_key_time"]}
        if case["emission"] == "steps":
            apart["steps"] = [
                {**step, "send": {**step["send"], "records": of(one, step["send"]["records"])}}
                if step.get("send")
                else step
                for step in case["steps"]
            ]
        else:
            whole = [{name: value for name, value in source.items() if name != "file"} for source in case["inputs"]]
            apart["inputs"] = [{**source, "records": of(one, records[source["stream"]])} for source in whole]
        results.append(run_window_case(apart, inputs, batch_size, fault=fault))
    if case["emission"] == "steps":
        return [[row for rows in step for row in rows] for step in zip(*results, strict=True)]
    return [row for rows in results for row in rows]


def _steps(case: Case, trial: Trial, columns: list[str], finish: Finish) -> list[Any]:
    seen: list[pl.DataFrame] = []
    found = []
    for step in case["steps"]:
        if step.get("send"):
            trial.driver.send(step["send"]["records"], source=step["send"]["stream"])
            seen.append(trial.output())
            trial.interrupt()
        if step.get("expect") is not None:
            frames = [frame for frame in seen if frame.height]
            whole = finish(pl.concat(frames, how="diagonal_relaxed")) if frames else pl.DataFrame()
            found.append(_rows(case, only(step, case, whole), columns))
    return found


def _rows(case: Case, frame: pl.DataFrame, columns: list[str]) -> list[list[Any]]:
    if not frame.height:
        return []
    if not case.get("join"):
        frame = standing(frame, key_columns(case))
    if case["emission"] == "closed_per_key":
        key = key_columns(case)
        latest = pl.col("window_start").max().over(key) if key else pl.col("window_start").max()
        frame = frame.filter(pl.col("window_start") < latest)
    types = [column["type"] for column in case["columns"]]
    rows = frame.select(columns).rows()
    return [[value_of(value, kind) for value, kind in zip(row, types, strict=True)] for row in rows]
