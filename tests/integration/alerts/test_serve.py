"""`thalweg alerts serve` as its user runs it: events of several kinds, rules taken up while it runs, a quiet log."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.alerts.recorder import Recorder
from tests.servers.process import free_port

KEY = "tw_a-key-for-this-test-only"
FILE = """
store: "sqlite:///alerts.db"
keys: [{name: ada, role: admin, secret: %s}]
channels:
  team: {type: webhook, url: "%s/a-secret-token", allow_private: true}
route: {channels: [team]}
rules:
  - {id: cpu, name: CPU, condition: cpu > 90, by: [host]}
  - {id: disk, name: Disk, condition: used > 90, by: [host, disk]}
  - {id: hot, name: Hot, condition: heat > 50, hold: 1h, by: [host]}
"""


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Served:
    """A service in a process of its own."""

    def __init__(self, folder: Path, text: str) -> None:
        self.file, self._log = folder / "alerts.yaml", folder / "log"
        self.file.write_text(text)
        port = free_port()
        program = Path(sys.executable).with_name("thalweg")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "alerts", "serve", "alerts.yaml", "--port", str(port)], cwd=folder, stdout=log, stderr=log
            )
        headers = {"Authorization": f"Bearer {KEY}"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def sent(self, **event: Any) -> httpx.Response:
        return self.client.post("/api/v1/events", json={"event": event})


@pytest.fixture
def hook() -> Iterator[Recorder]:
    with Recorder() as found:
        yield found


@pytest.fixture
def served(hook: Recorder, tmp_path: Path) -> Iterator[Served]:
    service = Served(tmp_path, FILE % (KEY, hook.url))
    try:
        until(service.up, service.log)
        yield service
    finally:
        service.client.close()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0, service.log


def test_each_event_meets_the_rules_that_are_about_it(served: Served, hook: Recorder):
    for count, event in ((1, {"cpu": 95}), (1, {"used": 95, "disk": "sda"}), (2, {"cpu": 95, "used": 1, "heat": 60})):
        answer = served.sent(host="db1", **event).json()
        assert (len(answer["alerts"]), answer["rules"] >= count) == (1, True), event
    assert served.sent(humidity=3).json() == {"alerts": [], "rules": 0}
    refused = served.sent(host="db1", cpu="hot", used=99, disk="sdb")
    assert (refused.status_code, "compares a text with a number" in refused.json()["error"]) == (422, True)
    until(lambda: len(hook.requests) == 4, served.log)
    told = [(request.json["alert"]["rule"], request.json["alert"]["event"].get("disk")) for request in hook.requests]
    assert sorted(told, key=str) == [("cpu", None), ("cpu", None), ("disk", "sda"), ("disk", "sdb")]
    assert "a-secret-token" not in served.log


def test_rules_are_taken_up_and_what_is_not_is_said(served: Served):
    right = served.file.read_text()
    served.file.write_text(right.replace("cpu > 90", "cpu > > 90"))
    until(lambda: "the rules stay as they are: alerts.yaml: rules: cpu" in served.log, served.log)
    assert len(served.sent(host="a", cpu=95).json()["alerts"]) == 1
    served.file.write_text(right.replace("cpu > 90", "cpu > 98").replace("channels: [team]", "channels: [console]"))
    until(lambda: "what has changed in route counts after a restart" in served.log, served.log)
    assert served.sent(host="b", cpu=95).json()["alerts"] == []
    assert "what has changed in route" in served.log


def test_a_storm_reaches_people_as_a_few_alerts_and_a_digest(hook: Recorder, tmp_path: Path):
    storm = "storm: {limit: 2, window: 1h, channels: [team], digest_after: 1s}\n"
    service = Served(tmp_path, FILE % (KEY, hook.url) + storm)
    try:
        until(service.up, service.log)
        found = [service.sent(host=f"web{n}", cpu=95).json()["alerts"][0]["status"] for n in range(9)]
        assert found == ["triggered"] * 2 + ["suppressed"] * 7

        def told_together() -> int:
            notes = [request.json["note"] for request in hook.requests if request.json["kind"] == "digest"]
            return sum(int(note.removeprefix("storm: ").split()[0]) for note in notes)

        # One digest where the events came within its second, on a slow machine several: each alert is in one of them.
        until(lambda: told_together() >= 7, service.log)
        assert told_together() == 7
    finally:
        service.client.close()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0, service.log
