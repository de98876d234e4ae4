"""Alerts by event time: suppression, replay, hostile values, channels that fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.unit.alerts.alerting import made

from thalweg.alerts import AlertManager, AlertRule, CountBasedSuppression, Message, TimeBasedSuppression
from thalweg.alerts.channels.http import retry_after
from thalweg.errors import ConfigurationError, ThalwegError
from thalweg.streams import App
from thalweg.streams.testing import TestDriver


class Kept:
    def __init__(self) -> None:
        self.keys: list[str] = []

    def send(self, message: Message) -> None:
        self.keys.append(message.key)

    def close(self) -> None:
        pass


class Broken(Kept):
    def send(self, message: Message) -> None:
        raise RuntimeError("broken")


def manager(url: str = "sqlite://", channels: tuple[str, ...] = ("kept",)) -> tuple[AlertManager, Kept]:
    alerts, kept = AlertManager(url, clock=lambda: 0, deliver=False), Kept()
    alerts.add_channel("kept", kept)
    alerts.add_channel("broken", Broken())
    rule = AlertRule(id="cpu", name="CPU", condition=pl.col("cpu") > 90, notification_channels=channels, by=["host"],
                     suppression_rules=[TimeBasedSuppression(100)])  # fmt: skip
    alerts.add_rule(rule)
    return alerts, kept


def frame(*events: tuple[str, int], first: int = 0) -> pl.DataFrame:
    rows = [{"host": h, "cpu": 97, "__ts": t, "__partition": 0, "__offset": first + n}
            for n, (h, t) in enumerate(events)]  # fmt: skip
    return pl.DataFrame(rows)


def statuses(alerts: AlertManager, rows: pl.DataFrame) -> list[str]:
    return [str(alert.status) for _, alert in alerts.process_frame(rows)[0]]


def test_suppression_is_by_event_time_and_fingerprint():
    alerts, _ = manager()
    rows = frame(("a", 50), ("a", 0), ("b", 50), ("a", 99), ("a", 100))
    assert statuses(alerts, rows) == ["suppressed", "triggered", "triggered", "suppressed", "triggered"]


def test_suppression_outlives_the_process(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'alerts.db'}"
    first, _ = manager(url)
    assert statuses(first, frame(("a", 0))) == ["triggered"]
    first.close()
    again, _ = manager(url)
    assert statuses(again, frame(("a", 99), ("a", 100), first=1)) == ["suppressed", "triggered"]


def test_a_replay_gives_the_same_rows_and_tells_nothing_twice():
    alerts, kept = manager()
    rows = frame(("a", 0), ("a", 1), ("b", 0))
    first = [(row, a.id, a.status, a.reason) for row, a in alerts.process_frame(rows)[0]]
    assert alerts.deliver_due() == 2
    assert [(row, a.id, a.status, a.reason) for row, a in alerts.process_frame(rows)[0]] == first
    assert alerts.deliver_due() == 0
    assert len(kept.keys) == len(set(kept.keys)) == 2
    assert len(alerts.list()) == 3


def test_rows_of_one_record_that_say_different_things_are_different_alerts():
    alerts, _ = manager()
    rows = frame(("a", 0), ("a", 500)).with_columns(pl.lit(0).alias("__offset"))
    assert statuses(alerts, rows) == ["triggered", "triggered"]


def test_a_broken_channel_does_not_keep_others_back():
    alerts, kept = manager(channels=("broken", "kept"))
    alerts.process_frame(frame(("a", 0)))
    assert alerts.deliver_due() == 1
    assert len(kept.keys) == 1
    [pending] = [n for n in alerts.notifications() if n.state == "pending"]
    assert (pending.channel, pending.attempts, pending.error) == ("broken", 1, "RuntimeError: broken")


def test_values_that_json_does_not_have_are_stored():
    alerts, _ = manager()
    rows = frame(("a", 0)).with_columns(pl.lit(float("nan")).alias("x"), pl.lit(b"\xff").alias("y"),
                                        pl.lit(2**100, pl.Int128).alias("z"))  # fmt: skip
    alerts.process_frame(rows)
    assert {n: alerts.list()[0].event[n] for n in "xyz"} == {"x": None, "y": "ff", "z": str(2**100)}


@pytest.mark.parametrize(("value", "seconds"), [("inf", None), ("nan", None), ("-3", 0.0), ("1e99", 86_400.0)])
def test_a_hostile_retry_after_is_bounded(value: str, seconds: float | None):
    assert retry_after(value) == seconds


def test_count_based_suppression_at_its_edges():
    rule = CountBasedSuppression(2, 100)
    assert rule.blocks([0, 50], 99) is not None
    assert rule.blocks([0, 50], 100) is None
    assert rule.blocks([0, 50], -49) is not None
    assert rule.blocks([0, 50], -50) is None


def test_one_manager_serves_several_streams():
    alerts, kept = manager()
    alerts.add_rule(AlertRule(id="disk", name="Disk", condition="used > 90", notification_channels=["kept"]))
    app = App("two")
    hosts = app.stream("hosts", schema={"host": pl.String, "cpu": pl.Int64})
    disks = app.stream("disks", schema={"disk": pl.String, "used": pl.Int64})
    with pytest.raises(ConfigurationError, match="'disc', which nobody added; did you mean 'disk'"):
        alerts.only("disc")
    with pytest.raises(ThalwegError, match="used"):
        hosts.alert(alerts).explain()
    with pytest.raises(ConfigurationError, match="at least one"):
        alerts.only()
    for stream, rule, event in ((hosts, "cpu", {"host": "a", "cpu": 97}), (disks, "disk", {"disk": "c", "used": 99})):
        driver = TestDriver(stream.alert(alerts.only(rule)))
        driver.send([event])
        assert driver.output()["rule"].to_list() == [rule]
    assert alerts.deliver_due() == 2
    assert len(kept.keys) == 2


def test_rules_about_other_events_do_not_keep_an_event_from_its_own():
    alerts, _ = made(kept=Kept())
    alerts.add_rule(AlertRule(id="cpu", name="CPU", condition="cpu > 90", notification_channels=["kept"]))
    alerts.add_rule(AlertRule(id="disk", name="Disk", condition=pl.col("used") > 90, notification_channels=["kept"]))
    alerts.add_rule(
        AlertRule(id="all", name="All", condition=lambda e: e.cpu + e.used > 180, notification_channels=["kept"])
    )

    def of(event: dict[str, Any]) -> list[str]:
        return [alert.rule for alert in asyncio.run(alerts.process_event(event))]

    assert of({"cpu": 95}) == ["cpu"]
    assert of({"used": 95, "disk": "sda"}) == ["disk"]
    assert of({"cpu": 95, "used": 95}) == ["cpu", "disk", "all"]
    assert of({"other": 1}) == []
    assert alerts.rules_about({"used": 1}) == ["disk"]


@pytest.mark.parametrize("condition", ["cpu > 90", pl.col("cpu") > 90, lambda e: e.cpu > 90])
def test_an_event_that_one_rule_can_not_take_alerts_by_the_others(condition: Any):
    alerts, _ = made(kept=Kept())
    alerts.add_rule(AlertRule(id="cpu", name="CPU", condition=condition, notification_channels=["kept"]))
    alerts.add_rule(AlertRule(id="down", name="Down", condition="down == true", notification_channels=["kept"]))
    with pytest.raises(Exception, match=r"compare|between"):
        asyncio.run(alerts.process_event({"cpu": "hot", "down": True}))
    assert [alert.rule for alert in alerts.list()] == ["down"]
    assert [a.rule for a in asyncio.run(alerts.process_event({"cpu": 95, "down": False}))] == ["cpu"]
