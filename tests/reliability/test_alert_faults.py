"""kill -9 of an alerting process at every step that the code names: every alert is told, repeats carry the same key,
nothing that was suppressed or acknowledged is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.integration.alerts.recorder import Recorder
from tests.reliability import alerting_job
from tests.reliability.test_fault_points import points
from tests.servers.redis import RedisServer

POINTS = points("alerts")
FEW = ["alerts.decided", "alerts.sent", "alerts.changed"]
LATER = {"alerts.claimed": 2, "alerts.sending": 2, "alerts.sent": 2, "alerts.stored": 2}
"""At which visit: some work is done by then."""


def run(store: str, url: str, log: Path, fault: str = "") -> int:
    """Lets the process live; its exit code."""
    with log.open("ab") as out:
        command = [sys.executable, alerting_job.__file__, store, url]
        environment = {**os.environ, "THALWEG_FAULT": fault}
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out).wait(120)


def kill_at(
    names: Iterable[str], store: Callable[[str], str], log: Path, between: Callable[[], None] = lambda: None
) -> None:
    """For each point, on a store of its own: killed there, started again, and everything is as it has to be."""
    for name in names:
        with Recorder() as server:
            url = store(name)
            code = run(url, server.url, log, f"{name}:{LATER.get(name, 1)}")
            assert code == -signal.SIGKILL, f"{name} was not reached (code {code}):\n{log.read_text()[-4000:]}"
            between()
            assert run(url, server.url, log) == 0, f"{name}:\n{log.read_text()[-4000:]}"
            as_it_has_to_be(url, server, name)


def as_it_has_to_be(store: str, server: Recorder, point: str) -> None:
    manager = alerting_job.manager_of(store, server.url, deliver=False)
    alerts = {alert.id: alert for alert in manager.list(limit=1_000)}
    shown = {host: [a for a in alerts.values() if a.event["host"] == host] for host in alerting_job.HOSTS}
    for host, found in shown.items():
        assert len(found) == alerting_job.REPEATED, (point, host)
        assert sum(alert.reason is None for alert in found) == (0 if host == "quiet" else 1), (point, host)

    told: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for request in server.requests:
        body = request.json
        told[request.headers["idempotency-key"]].add((request.path, body["kind"], body["alert"]["id"]))
    # A key always says the same thing, and says it once more at most for each message that was under way at the kill.
    assert all(len(said) == 1 for said in told.values()), point
    assert len(server.requests) - len(told) <= 2, point

    [taken] = [alert for alert in shown["taken"] if alert.reason is None]
    story = [entry["what"] for entry in manager.history(taken.id)]
    said = sorted(entry for each in told.values() for entry in each)
    host_of = {id: alert.event["host"] for id, alert in alerts.items()}
    assert all(alerts[id].reason is None for _, _, id in said), f"{point}: what is suppressed was told"
    first = sorted(host_of[id] for path, kind, id in said if (path, kind) == ("/team", "triggered"))
    # What was acknowledged before its message went out need not be told any more; the audit trail says so.
    assert first in (["a", "b", "c", "slow", "taken"], ["a", "b", "c", "slow"]), point
    if "taken" not in first:
        assert "not told" in story, point
    escalated = [host_of[id] for path, kind, id in said if (path, kind) == ("/boss", "reminder")]
    assert set("abc") | {"slow"} <= set(escalated), point
    assert len(escalated) == len(set(escalated)), point

    assert story.count("acknowledged") == 1, point
    assert "escalated" not in story[story.index("acknowledged") :], f"{point}: escalated after the acknowledgement"
    assert {note.state for note in manager.notifications()} <= {"sent", "cancelled"}, point
    manager.close(0)


@pytest.mark.timeout(300)
def test_killed_at_some_points(tmp_path: Path):
    kill_at(FEW, lambda name: f"sqlite:///{tmp_path / name}.db", tmp_path / "log")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_point_on_sqlite(tmp_path: Path):
    assert set(FEW) | set(LATER) <= set(POINTS)
    kill_at(POINTS, lambda name: f"sqlite:///{tmp_path / name}.db", tmp_path / "log")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_point_while_redis_is_restarted(tmp_path: Path):
    with RedisServer(persistent=True) as server:

        def restart() -> None:
            server.stop()
            server.start()

        def emptied(name: str) -> str:
            import redis

            redis.Redis.from_url(server.url).flushdb()
            return server.url

        kill_at(POINTS, emptied, tmp_path / "log", restart)
