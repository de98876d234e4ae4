"""A running alert service for tests, with a key for each role."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from tests.servers.process import free_port
from tests.unit.alerts.alerting import Kept, rule
from thalweg.alerts import AlertManager, Person, Rotation, Route, Schedule
from thalweg.alerts.service import ApiKey, Role, build
from thalweg.alerts.service.watcher import Watcher


@dataclass
class Service:
    manager: AlertManager
    url: str
    secrets: dict[Role, str]
    team: Kept
    watcher: Watcher
    manager_url: str
    routes: list[Any]

    def client(self, role: Role | None = Role.ADMIN) -> httpx.Client:
        headers = {} if role is None else {"Authorization": f"Bearer {self.secrets[role]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def fired(self, host: str) -> dict[str, Any]:
        """The alert of an event of this host."""
        with self.client(Role.RESPONDER) as client:
            answer = client.post("/api/v1/events", json={"event": {"host": host, "cpu": 95}, "origin": host})
            [alert] = answer.json()["alerts"]
            return alert


@contextmanager
def serving(store: str = "sqlite://", clock: Callable[[], int] | None = None) -> Iterator[Service]:
    manager, team = AlertManager(store, clock=clock), Kept()
    manager.add_channel("team", team)
    manager.add_rule(rule(notification_channels=None, severity="high"))
    manager.set_route(Route(channels=["team"]))
    manager.add_schedule(Schedule("primary", [Person("ada", ["team"])], [Rotation(["ada"], "2024-01-01")]))
    keys, secrets = [], {}
    for role in Role:
        key, secrets[role] = ApiKey.new(role.name.lower(), role)
        keys.append(key)
    app = build(manager, keys, slack_signing_secret="slack-secret", per_minute=6_000, close=True)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Service(manager, f"http://127.0.0.1:{port}", secrets, team, app.state.watcher, store, app.routes)
    server.should_exit = True
    thread.join(20)
