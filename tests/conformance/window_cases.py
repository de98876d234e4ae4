"""Window cases through the public API and the test driver.

A case's structured fields make its plan (`window_generic`); where its description says more, `window_plans` has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from tests.conformance.join_cases import run_join_case
from tests.conformance.trial import Fault, Trial
from tests.conformance.window_generic import Case, Finish, generic, key_columns, standing, streams_of, value_of
from tests.conformance.window_plans import PLANS, chained


def run_window_case(case: Case, inputs: Path, batch_size: int | None, *, fault: Fault = None) -> list[Any]:
    """The rows of a case in its column order; for `steps` one list of rows per `expect`.

    Args:
        fault: what happens within each input; between all steps, where there are any.

    Raises:
        NotServed: the case needs what its structured fields do not say, or what is not built.
    """
    if case.get("join"):
        return run_join_case(case, inputs, batch_size, lambda frame, columns: _rows(case, frame, columns), fault=fault)
    if case["case"] == "proton_chained_tumble":
        return _rows(case, chained(case, batch_size, fault), ["id", "max_mean", "window_end"])
    plan, columns, finish = PLANS.get(case["case"], generic)(case, streams_of(case))
    trial = Trial(plan, batch_size=batch_size, fault=fault)
    if case["emission"] == "steps":
        return _steps(case, trial, columns, finish)
    for source in case["inputs"]:
        rows = source.get("records")
        if rows is None:
            rows = [json.loads(line) for line in (inputs / source["file"]).read_text().splitlines()]
        trial.send(rows, source=source["stream"])
    if case["emission"] != "watermark_only":
        trial.driver.end()
    return _rows(case, finish(trial.output()), columns)


def _steps(case: Case, trial: Trial, columns: list[str], finish: Finish) -> list[Any]:
    seen: list[pl.DataFrame] = []
    found = []
    for step in case["steps"]:
        if "send" in step:
            trial.driver.send(step["send"]["records"], source=step["send"]["stream"])
            seen.append(trial.output())
            trial.interrupt()
        if "expect" in step:
            frames = [frame for frame in seen if frame.height]
            whole = finish(pl.concat(frames, how="diagonal_relaxed")) if frames else pl.DataFrame()
            if "only_time" in step and whole.height:
                whole = whole.filter(pl.col(case["inputs"][0]["time_column"]) == step["only_time"])
            found.append(_rows(case, whole, columns))
    return found


def _rows(case: Case, frame: pl.DataFrame, columns: list[str]) -> list[list[Any]]:
    if not frame.height:
        return []
    if case["emission"] == "final_state" and not case.get("join"):
        frame = standing(frame, key_columns(case))
    if case["emission"] == "closed_per_key":
        key = key_columns(case)
        latest = pl.col("window_start").max().over(key) if key else pl.col("window_start").max()
        frame = frame.filter(pl.col("window_start") < latest)
    types = [column["type"] for column in case["columns"]]
    rows = frame.select(columns).rows()
    return [[value_of(value, kind) for value, kind in zip(row, types, strict=True)] for row in rows]
