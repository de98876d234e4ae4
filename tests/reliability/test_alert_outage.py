"""A channel is away for an hour, in real time made short by a clock that jumps: meanwhile the service is killed again
and again, the clock is put back, the store's server is restarted, and somebody acknowledges. Then everything that is
owed arrives, with the same key at each repetition, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.alerts.recorder import Recorder
from tests.reliability import outage_job
from tests.servers.process import free_port
from tests.servers.redis import RedisServer
from thalweg.alerts import AlertManager

MINUTE = 60_000
PATIENCE = 180
"""Seconds for what is waited for: nothing is decided by it unless something is wrong."""


class Outage:
    """The service's process, its clock, and a second look at its store."""

    def __init__(self, store: str, folder: Path) -> None:
        self.port = free_port()
        self.store, self.folder = store, folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.off = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, outage_job.__file__, self.store, self.url, str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        self.process.kill()
        self.process.wait()

    def jump(self, ms: int) -> None:
        self.off += ms
        written = self.folder / "clock.new"
        written.write_text(str(self.off))
        written.rename(self.folder / "clock")

    def look(self) -> AlertManager:
        return outage_job.manager_of(self.store, self.url, self.folder, deliver=False)

    def until(self, true: Callable[[AlertManager], bool], what: str) -> None:
        manager, deadline = self.look(), time.monotonic() + PATIENCE
        while not true(manager):
            assert time.monotonic() < deadline, f"not {what}:\n{self.said()}"
            time.sleep(0.05)
        manager.close(0)

    def said(self, last: int | None = 4_000) -> str:
        text = (self.folder / "log").read_text(errors="replace")
        return text if last is None else text[-last:]


def stored(manager: AlertManager) -> int:
    return len(manager.list(limit=1_000))


def tried(manager: AlertManager) -> bool:
    return sum(note.attempts for note in manager.notifications() if note.channel == "team") >= 4


def owed(manager: AlertManager) -> int:
    return sum(note.state not in ("sent", "cancelled") for note in manager.notifications())


def outlast(outage: Outage, between: Callable[[], None]) -> list[tuple[str, str, str, str]]:
    """The whole outage; key, path, kind and alert of all that arrived."""
    whole = len(outage_job.HOSTS) * outage_job.REPEATED
    outage.start()
    outage.until(lambda m: stored(m) >= whole // 3, "a third of the alerts stored")
    outage.kill()
    outage.jump(20 * MINUTE)
    between()
    outage.start()
    outage.until(lambda m: stored(m) == whole and tried(m), "all alerts stored, and tried")
    manager = outage.look()
    [taken] = [a for a in manager.list(status="triggered", limit=100) if a.event["host"] == "taken"]
    manager.acknowledge(taken.id, "ada")
    manager.close(0)
    outage.jump(-10 * MINUTE)
    outage.kill()
    between()
    outage.start()
    outage.jump(50 * MINUTE)
    with Recorder(port=outage.port) as server:
        server.answers.extend([(503, {}, b"")] * 3)
        first = time.monotonic() + PATIENCE
        while len(server.requests) < 6:
            assert time.monotonic() < first, outage.said()
            outage.jump(MINUTE // 2)  # what waits for its next attempt need not wait long
            time.sleep(0.2)
        outage.kill()  # in the middle of delivering
        between()
        outage.start()
        outage.jump(10 * MINUTE)
        outage.until(lambda m: owed(m) == 0, "everything told")
        outage.jump(3 * 60 * MINUTE)  # and now the escalations
        outage.until(lambda m: not any(a.escalating for a in m.list(status="triggered", limit=100)), "escalated")
        outage.until(lambda m: owed(m) == 0, "everything told")
        (outage.folder / "end").touch()
        assert outage.process is not None
        assert outage.process.wait(60) == 0, outage.said()
    return [(r.headers["idempotency-key"], r.path, r.json["kind"], r.json["alert"]["id"]) for r in server.requests[3:]]


def as_it_has_to_be(outage: Outage, arrived: list[tuple[str, str, str, str]]) -> None:
    manager = outage.look()
    alerts = {alert.id: alert for alert in manager.list(limit=1_000)}
    by_key: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for key, *said in arrived:
        by_key[key].add(tuple(said))  # type: ignore[arg-type]
    assert all(len(said) == 1 for said in by_key.values())
    assert len({said for each in by_key.values() for said in each}) == len(by_key)
    slow = outage.said(None).count("Timeout")  # answered too late for a busy machine: said again, by right
    assert len(arrived) - len(by_key) <= 2 + slow, "more was said twice than was under way at the kill"
    assert all(alerts[id].reason is None for *_, id in arrived), "what is suppressed was told"
    told = {path: {alerts[id].event["host"] for _, at, kind, id in arrived if at == path and kind in ("triggered",
            "reminder")} for path in ("/team", "/boss")}  # fmt: skip
    owing = {host for host in outage_job.HOSTS if host.startswith("h")}
    assert told == {"/team": owing, "/boss": owing}
    manager.close(0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_channel_is_away_for_an_hour_on_sqlite(tmp_path: Path):
    outage = Outage(f"sqlite:///{tmp_path / 'alerts.db'}", tmp_path)
    as_it_has_to_be(outage, outlast(outage, lambda: None))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_channel_is_away_for_an_hour_while_redis_is_restarted(tmp_path: Path):
    with RedisServer(persistent=True) as server:

        def restart() -> None:
            server.stop()
            server.start()

        outage = Outage(server.url, tmp_path)
        as_it_has_to_be(outage, outlast(outage, restart))
