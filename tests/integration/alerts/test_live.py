"""Live updates over real connections: all that changes, whoever changes it, from one look at the store for all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.alerts.service import Service, serving
from tests.unit.alerts.alerting import Kept, rule
from thalweg.alerts import AlertManager
from thalweg.alerts.service import Role, watcher
from thalweg.alerts.service.watcher import Listener, Update
from thalweg.alerts.store import Changes, open_store
from thalweg.alerts.store.base import Entry


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    url = f"sqlite:///{tmp_path_factory.mktemp('live') / 'alerts.db'}"
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
    with serving(url) as found:
        yield found


def address(service: Service) -> str:
    return service.url.replace("http", "ws") + "/api/v1/ws"


def opened(service: Service, query: str = "") -> ClientConnection:
    headers = {"Authorization": f"Bearer {service.secrets[Role.VIEWER]}"}
    return connect(address(service) + query, additional_headers=headers)


def until(socket: ClientConnection, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message about an alert that is wanted."""
    while True:
        message: dict[str, Any] = json.loads(socket.recv(30))
        if wanted(message["alert"]):
            return message


def test_a_socket_gives_what_is_and_what_comes(service: Service):
    alert = service.fired("socket")
    with opened(service) as socket:
        assert until(socket, lambda a: a["id"] == alert["id"])["alert"]["status"] == "triggered"
        service.manager.acknowledge(alert["id"], "ada")
        said = until(socket, lambda a: a["id"] == alert["id"] and a["status"] != "triggered")
        assert said["alert"]["acknowledged_by"] == "ada"
    service.manager.resolve(alert["id"], "ada")
    with opened(service, f"?after={said['id']}") as socket:  # nothing is missed in between, and nothing comes twice
        again = json.loads(socket.recv(30))
        assert (again["alert"]["id"], again["alert"]["status"]) == (alert["id"], "resolved")


def test_a_stream_goes_on_where_it_broke(service: Service):
    alert = service.fired("broken")
    with service.client(Role.VIEWER) as client:
        with client.stream("GET", "/api/v1/stream") as stream:
            lines = (line for line in stream.iter_lines() if line)
            last = max(int(line.removeprefix("id: ")) for line, _ in zip(lines, range(1), strict=False))
        service.manager.comment(alert["id"], "ada", "while nobody listened")
        service.manager.acknowledge(alert["id"], "ada")
        with client.stream("GET", "/api/v1/stream", headers={"Last-Event-ID": str(last)}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: ") and json.loads(line.removeprefix("data: "))["id"] == alert["id"]:
                    break
        assert json.loads(line.removeprefix("data: "))["status"] == "acknowledged"


def test_who_has_no_key_does_not_listen(service: Service):
    for settings in ({}, {"additional_headers": {"Authorization": "Bearer wrong"}}, {"subprotocols": ["bearer.wrong"]}):
        with pytest.raises(InvalidStatus) as error:
            connect(address(service), **settings)
        assert error.value.response.status_code == 401
    key = service.secrets[Role.VIEWER]
    with connect(address(service), subprotocols=["thalweg.alerts", f"bearer.{key}"]) as socket:  # as browsers do it
        assert socket.subprotocol == "thalweg.alerts"


def test_what_another_process_changes_is_heard(service: Service):
    alert = service.fired("elsewhere")
    other = AlertManager(service.manager_url, deliver=False)
    with opened(service) as socket:
        until(socket, lambda a: a["id"] == alert["id"])
        other.acknowledge(alert["id"], "bob")
        assert until(socket, lambda a: a["status"] == "acknowledged" and a["id"] == alert["id"])
    other.close()


def test_one_look_serves_all_who_listen(service: Service):
    alert = service.fired("many")
    assert service.manager.flush(20)
    with ExitStack() as stack:
        sockets = [stack.enter_context(opened(service)) for _ in range(25)]
        for socket in sockets:
            until(socket, lambda a: a["id"] == alert["id"])
        before = service.watcher.looks
        service.manager.comment(alert["id"], "ada", "hello")
        service.manager.acknowledge(alert["id"], "ada")
        for socket in sockets:
            until(socket, lambda a: a["id"] == alert["id"] and a["status"] == "acknowledged")
        assert 1 <= service.watcher.looks - before <= 4  # two changes, and the message that follows them


def test_too_many_are_refused(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watcher, "MOST_LISTENERS", 1)
    with opened(service) as socket:
        service.fired("crowd")
        until(socket, lambda a: True)
        with pytest.raises(InvalidStatus) as error:
            opened(service)
        assert (error.value.response.status_code, error.value.response.headers["retry-after"]) == (503, "10")
        with service.client(Role.VIEWER) as client:
            assert client.get("/api/v1/stream").status_code == 503


def test_a_slow_listener_gets_the_latest_or_is_sent_away(monkeypatch: pytest.MonkeyPatch):
    async def slow() -> None:
        monkeypatch.setattr(watcher, "MOST_WAITING", 3)
        listener = Listener(asyncio.get_running_loop())
        assert await listener.take(0.001) == []
        for number in range(10):
            listener.put({"a": Update(number, "{}"), f"b{number % 2}": Update(number, "{}")})
        assert [update.number for update in await listener.take(1)] == [8, 9, 9]
        listener.put({f"c{number}": Update(number, "{}") for number in range(4)})
        assert (listener.lost, await listener.take(1)) == (True, [])

    asyncio.run(slow())


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_stores_say_that_something_has_changed(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    url = request.getfixturevalue("redis_url") if kind == "redis" else f"sqlite:///{tmp_path / 'alerts.db'}"
    store, other = open_store(url), open_store(url)
    assert not store.wait(0, 0.05)
    for changing in (store, other):
        since = store.last_change()
        heard: list[bool] = []
        waiting = threading.Thread(target=lambda since=since, heard=heard: heard.append(store.wait(since, 30)))
        waiting.start()
        changing.apply(Changes(entries=[Entry("a", 0, "comment", "ada")]))
        waiting.join(30)
        while heard == [False]:  # Redis may wake it for what it was told before
            heard = [store.wait(since, 30)]
        assert heard == [True]
        assert not store.wait(store.last_change(), 0.05)
    for one in (store, other):
        one.close()


def test_a_store_that_was_emptied_is_heard_again(redis_url: str):
    import redis

    manager = AlertManager(redis_url, deliver=False)
    manager.add_channel("team", Kept())
    manager.add_rule(rule())
    found = watcher.Watcher(manager)

    async def listen() -> list[Update]:
        listener = found.join()
        redis.Redis.from_url(redis_url).flushdb()
        while found.now(10) or manager.store.last_change():
            await asyncio.sleep(0.01)
        await asyncio.sleep(2 * watcher.PAUSE)
        await manager.process_event({"host": "a", "cpu": 95})
        updates = await listener.take(30)
        found.leave(listener)
        return updates

    assert [json.loads(update.alert)["title"] for update in asyncio.run(listen())] == ["a"]
    found.close()
    manager.close()
