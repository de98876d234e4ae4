"""The examples, as their users run them: on the embedded log and on Kafka, checked by plain Python."""

from __future__ import annotations

import json
import runpy
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.alerts.recorder import Recorder
from thalweg.alerts import AlertManager
from thalweg.connectors.sqlite_log import EmbeddedLog

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
    else:
        url = f"sqlite:///{tmp_path}/data.db"
    monkeypatch.setenv("THALWEG_BROKER", url)
    monkeypatch.setenv("THALWEG_ALERTS", f"sqlite:///{tmp_path}/alerts.db")
    return url


def run(script: str, topic: str, broker: str) -> list[dict[str, Any]]:
    """Sends the sample events, runs the example to their end; returns the events."""
    feed = runpy.run_path(str(EXAMPLES / "feed.py"))
    now = time.time_ns() // 1_000_000
    events = list(feed["TOPICS"][topic][0](now))
    assert feed["send"](topic, broker, now) == len(events)
    example = runpy.run_path(str(EXAMPLES / script), run_name="example")
    example["app"].run(until_caught_up=True)
    if "alerts" in example:
        example["alerts"].close()
    return events


def results(broker: str, topic: str) -> list[dict[str, Any]]:
    """What the example wrote, as a reader of committed records sees it."""
    if broker.startswith("sqlite"):
        with EmbeddedLog(broker) as log:
            return [json.loads(value) for value in log.records(topic)["value"]]
    return _committed(broker.removeprefix("kafka://"), topic)


def _committed(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    from confluent_kafka import Consumer, TopicPartition

    settings = {"bootstrap.servers": bootstrap, "group.id": "test", "isolation.level": "read_committed"}
    consumer = Consumer(settings | {"enable.partition.eof": True, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found, ended = [], 0
    while ended < len(partitions):
        message = consumer.poll(10)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found.append(json.loads(message.value()))
    consumer.close()
    return found


def test_sensor_averages(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    events = run("sensor_averages.py", "sensor-stream", broker)
    readings: dict[tuple[str, int], list[float]] = defaultdict(list)
    for event in events:
        if 0 <= event["value"] <= 100:
            readings[event["sensor_id"], event["ts"] // 60_000 * 60_000].append(event["value"])
    watermark = max(event["ts"] for event in events) - 5_000
    expected = {key: values for key, values in readings.items() if key[1] + 60_000 <= watermark}
    written = {(row["sensor_id"], row["window_start"]): row for row in results(broker, "sensor-averages")}
    assert len(expected) >= 24
    assert written.keys() == expected.keys()
    for key, values in expected.items():
        assert written[key]["n"] == len(values)
        assert written[key]["avg"] == pytest.approx(sum(values) / len(values), rel=1e-9)
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if line.startswith("Sensor attic: avg = ")]) == len(expected) // 3


def test_sql_injection(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("sql_injection.py", "requests", broker)
    matches = results(broker, "sql-injections")
    assert [(match["pattern"], match["ip"]) for match in matches] == [("sql-injection", "203.0.113.7")]
    assert "SQL injection from 203.0.113.7: /products?id=1' UNION SELECT" in capsys.readouterr().out


def test_fraud_alert(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("fraud_alert.py", "transactions", broker)
    raised = results(broker, "fraud-alerts")
    assert [alert["rule"] for alert in raised] == ["fraud-detection"] * 2
    assert [alert["status"] for alert in raised] == ["triggered", "suppressed"]
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("Potential Fraud Detected") == 1


def test_on_call(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder() as hook:
        set_up_hooks(monkeypatch, hook.url)
        run("on_call.py", "loads", broker)
        raised = [(row["rule"], row["status"], row["title"].split()[0]) for row in results(broker, "on-call-alerts")]
        assert sorted(set(raised)) == [
            ("cpu", "resolved", "web-1"),
            ("cpu", "suppressed", "build-1"),
            ("cpu", "triggered", "web-1"),
            ("disk", "suppressed", "db-1:"),
            ("disk", "triggered", "db-1:"),
            ("silent", "triggered", "web-3"),
        ]
        told = sorted((one.path, one.json["alert"]["rule"], one.json["kind"]) for one in hook.requests)
    assert told == [
        ("/pager", "disk", "triggered"),
        ("/team", "cpu", "resolved"),
        ("/team", "cpu", "triggered"),
        ("/team", "silent", "triggered"),
    ]
    assert all("x-thalweg-signature" in one.headers for one in hook.requests)
    kept = AlertManager("sqlite:///alerts.db", deliver=False)
    [disk] = kept.list(rule="disk", status="triggered")
    assert disk.escalating
    kept.close(0)


def set_up_hooks(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name, value in (("HOOK", url), ("SECRET", "a long shared secret")):
        monkeypatch.setenv(f"ALERT_{name}", value)
    monkeypatch.setenv("THALWEG_ALERTS_KEY", "tw_a-key-for-this-test-only")


@pytest.mark.parametrize("script", ["sensor_averages.py", "sql_injection.py", "fraud_alert.py", "on_call.py"])
def test_everything_in_the_examples_runs_on_columns(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    set_up_hooks(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("THALWEG_ALERTS", f"sqlite:///{tmp_path}/alerts.db")
    explain: Callable[[], str] = runpy.run_path(str(EXAMPLES / script), run_name="example")["app"].explain
    plan = explain()
    assert "vectorised" in plan
    assert "per row" not in plan
