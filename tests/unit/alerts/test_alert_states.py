"""Rules that watch a state: they begin, hold, flap, end and are missed, however events are cut and after crashes."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.alerts.alerting import MINUTE, Kept, made, rule

from thalweg.alerts import AlertManager
from thalweg.errors import StateError
from thalweg.streams import App
from thalweg.streams.testing import TestDriver

SCHEMA = {"host": pl.String, "cpu": pl.Int64, "ts": pl.Int64}
Rows = list[dict[str, Any]]


def rows(*events: tuple[str, int, int]) -> Rows:
    return [{"host": host, "cpu": cpu, "ts": ts} for host, cpu, ts in events]


def job(manager: AlertManager, batch_size: int | None = None) -> TestDriver:
    stream = App("states").stream("cpu", schema=SCHEMA, timestamp="ts", watermark=0)
    return TestDriver(stream.key_by("host").alert(manager), batch_size=batch_size)


def told(driver: TestDriver) -> list[tuple[str, str, int]]:
    found = driver.output()
    return [] if found.is_empty() else list(found.select("title", "status", "event_time").iter_rows())


def watching(**settings: Any) -> AlertManager:
    manager, _ = made(team=Kept())
    manager.add_rule(rule(by=None, **settings))
    return manager


def test_it_begins_once_the_condition_has_held():
    manager = watching(hold="5m", auto_resolve=True)
    driver = job(manager)
    driver.send(rows(("a", 95, 0), ("a", 96, 4 * MINUTE)))
    assert told(driver) == []
    driver.send(rows(("a", 95, 5 * MINUTE), ("a", 97, 20 * MINUTE), ("a", 10, 21 * MINUTE)))
    assert told(driver) == [("a", "triggered", 5 * MINUTE), ("a", "resolved", 5 * MINUTE)]
    [alert] = manager.list()
    assert (alert.count, alert.resolved_by, alert.event["cpu"]) == (4, "auto", 95)


def test_time_alone_is_enough_for_it_to_hold():
    manager = watching(hold="5m", auto_resolve=True)
    driver = job(manager)
    driver.send(rows(("a", 95, 0)))
    driver.send(rows(("b", 1, 5 * MINUTE)))  # another host's event moves the watermark
    assert told(driver) == [("a", "triggered", 5 * MINUTE)]


def test_what_is_interrupted_does_not_hold():
    driver = job(watching(hold="5m", auto_resolve=True))
    driver.send(rows(("a", 95, 0), ("a", 10, 3 * MINUTE), ("a", 95, 4 * MINUTE), ("a", 10, 8 * MINUTE)))
    driver.send(rows(("a", 10, 30 * MINUTE)))
    assert told(driver) == []


def test_hysteresis_ends_it_only_where_the_other_condition_is_met():
    driver = job(watching(clear=pl.col("cpu") < 50, auto_resolve=True))
    driver.send(rows(("a", 95, 0), ("a", 70, 1), ("a", 95, 2), ("a", 60, 3), ("a", 49, 4), ("a", 60, 5)))
    assert told(driver) == [("a", "triggered", 0), ("a", "resolved", 0)]


def test_an_end_that_must_last_is_undone_by_a_new_beginning():
    manager = watching(clear=pl.col("cpu") < 50, auto_resolve="10m")
    driver = job(manager)
    driver.send(rows(("a", 95, 0), ("a", 10, MINUTE), ("a", 95, 5 * MINUTE), ("a", 10, 6 * MINUTE)))
    assert told(driver) == [("a", "triggered", 0)]
    driver.send(rows(("b", 1, 16 * MINUTE)))
    assert told(driver) == [("a", "resolved", 0)]


def test_without_auto_resolve_the_alert_stays_and_a_new_beginning_is_the_same_alert():
    manager = watching(hold=1)
    driver = job(manager)
    driver.send(rows(("a", 95, 0), ("a", 95, 1), ("a", 10, 2)))
    [alert] = manager.list()
    assert (alert.status, alert.active) == ("triggered", False)
    driver.send(rows(("a", 95, 10), ("a", 95, 20)))
    [alert] = manager.list()
    assert (alert.active, alert.event_time) == (True, 1)


def test_what_is_missed_alerts_and_what_comes_back_resolves():
    manager, _ = made(team=Kept())
    manager.add_rule(rule("quiet", by=None, condition=pl.col("cpu") >= 0, absent="10m", auto_resolve=True))
    driver = job(manager)
    driver.send(rows(("a", 1, 0), ("b", 1, 0), ("b", 1, 9 * MINUTE)))
    assert told(driver) == []
    driver.send(rows(("b", 1, 15 * MINUTE)))
    assert told(driver) == [("a", "triggered", 10 * MINUTE)]
    driver.send(rows(("a", 2, 20 * MINUTE)))
    assert told(driver) == [("a", "resolved", 10 * MINUTE)]
    driver.send(rows(("b", 1, 60 * MINUTE)))
    # b was last seen at minute 15, and came back at 60; a was last seen at 20.
    assert told(driver) == [
        ("b", "triggered", 25 * MINUTE),
        ("b", "resolved", 25 * MINUTE),
        ("a", "triggered", 30 * MINUTE),
    ]


def test_a_state_that_outlasts_its_silence_is_told_then():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(auto_resolve=True, by=None))
    manager.silence({"host": "a"}, "10m", by="ada", reason="patching")
    driver = job(manager)
    driver.send(rows(("a", 95, 0), ("b", 95, 0), ("b", 1, 1)))
    manager.deliver_due()
    clock.turn(1_000)
    manager.deliver_due()
    assert team.take() == ["triggered: b", "resolved: Resolved: b"]
    for _ in range(25):
        clock.turn(MINUTE // 2)
        manager.deliver_due()
    assert team.take() == ["triggered: a"]
    [alert] = manager.list(status="triggered")
    assert "no longer suppressed, and its state goes on" in [e["reason"] for e in manager.history(alert.id)]


def test_a_crash_goes_on_from_the_last_commit():
    manager = watching(hold="5m", auto_resolve=True)
    driver = job(manager)
    driver.send(rows(("a", 95, 0), ("b", 95, 0), ("b", 1, 1)))
    saved = driver.snapshot()
    driver.send(rows(("a", 95, 6 * MINUTE), ("a", 1, 7 * MINUTE)))
    first = told(driver)
    driver.restore(saved)
    driver.send(rows(("a", 95, 6 * MINUTE), ("a", 1, 7 * MINUTE)))
    assert told(driver) == first == [("a", "triggered", 5 * MINUTE), ("a", "resolved", 5 * MINUTE)]
    assert len(manager.list()) == 1


def test_states_that_another_version_saved_are_refused():
    driver = job(watching(hold="5m"))
    [operator] = [stage.operator for stage in driver.dataflow.stages if stage.stateful]
    with pytest.raises(StateError, match="another version of Thalweg"):
        operator.restore({"hot@a1b2": [pl.DataFrame({"state": ["{}"]})]})


def settings_of(number: int) -> dict[str, Any]:
    return [
        {"hold": 5, "auto_resolve": True},
        {"clear": pl.col("cpu") < 50, "auto_resolve": 7},
        {"hold": 3, "clear": pl.col("cpu") < 50, "auto_resolve": 4},
        {"condition": pl.col("cpu") > 50, "absent": 6, "auto_resolve": True},
        {"hold": 4},
    ][number]


def summary(manager: AlertManager) -> list[tuple[Any, ...]]:
    return sorted((a.fingerprint, a.event_time, a.status, a.count, a.active) for a in manager.list(limit=1000))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 4), st.integers(0, 10**6), st.sampled_from([1, 3, 7]))
def test_batches_and_crashes_change_nothing(kind: int, seed: int, batch_size: int):
    choose = random.Random(seed)
    time, events = 0, []
    for _ in range(40):
        time += choose.choice([0, 1, 1, 2, 5])
        events.append((choose.choice("ab"), choose.choice([95, 95, 70, 10]), time))
    whole = watching(**settings_of(kind))
    everything = job(whole)
    everything.send(rows(*events))
    cut = watching(**settings_of(kind))
    driver = job(cut, batch_size)
    saved = [driver.snapshot()]
    for start in range(0, len(events), 10):
        part = rows(*events[start : start + 10])
        driver.send(part)
        if choose.random() < 0.4:  # a crash before the commit: the part is read again
            driver.restore(*saved)
            driver.send(part)
        saved.append(driver.snapshot())
    for one in (everything, driver):
        one.end()
    assert summary(cut) == summary(whole)


def test_a_rule_must_make_sense():
    from thalweg.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="does not go together"):
        rule(absent="1m", hold="1m")
    with pytest.raises(ConfigurationError, match="hold of rule 'cpu'"):
        rule(hold=0)
    with pytest.raises(ConfigurationError, match="title of rule 'cpu'"):
        rule(title="{{ event.host")
