"""Loads the kernels of states (or compiles them), so that the first event does not wait for it."""

from __future__ import annotations

from functools import cache

import polars as pl

from thalweg.alerts.evaluate import RuleSet
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.states.tracker import StateTracker
from thalweg.streams.batch import TIMESTAMP


@cache
def warm_up() -> None:
    """Has a state begin, and comes back to it."""
    rule = AlertRule("warm-up", "Warm-up", pl.col("n") > 0, by=["key"], hold=2, clear=pl.col("n") < 0)
    frame = pl.DataFrame({"n": [1, -1, 1], "key": [0, 0, 0], TIMESTAMP: [0, 1, 2]})
    rules = RuleSet([rule], frame.drop(TIMESTAMP).schema)
    tracker = StateTracker()
    tracker.follow(frame, rules, rules.verdicts(frame), ())
    saved = tracker.snapshot(full=True)
    again = StateTracker()
    again.load([] if saved is None else [saved], {rule.id: rule}, ())
    again.on_time(10, {rule.id: rule})
