"""The service over real HTTP: who may do what, what it says, what it takes from others."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.integration.alerts.service import Service, serving
from thalweg.alerts.service import Role


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as found:
        yield found


def fired(service: Service, host: str) -> dict[str, Any]:
    return service.fired(host)


def test_every_endpoint_has_its_role(service: Service):
    from thalweg.alerts.service.endpoints import TABLE

    paths = [(m, p.format(id="x", action="resolve", name="x"), r) for m, p, r, _ in TABLE]
    for method, path, needed in [*paths, ("GET", "/metrics", Role.VIEWER), ("GET", "/api/v1/audit", Role.ADMIN)]:
        with service.client(None) as client:
            assert client.request(method, path).status_code == 401, path
        for role in Role:
            with service.client(role) as client:
                found = client.request(method, path, content=b"{}" if method == "POST" else None).status_code
                assert (found == 403) == (role < needed), (path, role, found)
    with service.client(None) as client:
        assert client.get("/api/v1/stream").status_code == 401
        assert client.get("/healthz").json() == {"status": "ok"}
        wrong = client.get("/api/v1/alerts", headers={"Authorization": "Bearer tw_wrong"})
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")


def test_the_life_of_an_alert_over_http(service: Service):
    alert = fired(service, "life")
    assert fired(service, "life")["id"] == alert["id"]
    with service.client(Role.RESPONDER) as client:
        path = f"/api/v1/alerts/{alert['id']}"
        assert client.post(f"{path}/comment", json={"text": "looking"}).status_code == 200
        assert client.post(f"{path}/snooze", json={"duration": "1h", "reason": "lunch"}).json()["snoozed_until"]
        assert client.post(f"{path}/acknowledge").json()["acknowledged_by"] == "responder"
        refused = client.post(f"{path}/acknowledge")
        assert (refused.status_code, "can't become" in refused.json()["error"]) == (409, True)
        assert client.post(f"{path}/resolve", json={"reason": "done"}).json()["status"] == "resolved"
        whole = client.get(path).json()
        assert [h["by"] for h in whole["history"] if h["by"]] == ["responder"] * 4
        assert "resolved by responder: done" in client.get(f"{path}/explain").json()["explanation"]
        assert client.get("/api/v1/alerts/unknown").status_code == 404
        assert client.post(f"{path}/explode").status_code == 404
    with service.client(Role.ADMIN) as client:
        calls = [c["call"] for c in client.get("/api/v1/audit").json()["calls"]]
        assert f"POST {path}/resolve" in calls


def test_lists_are_filtered_and_paged(service: Service):
    ids = {fired(service, f"page{n}")["id"] for n in range(7)}
    with service.client(Role.VIEWER) as client:
        found: set[str] = set()
        cursor: dict[str, str] = {}
        while True:
            answer = client.get("/api/v1/alerts", params={"limit": 3, "severity": "high", **cursor}).json()
            found |= {alert["id"] for alert in answer["alerts"]}
            if answer["cursor"] is None:
                break
            cursor = {"cursor": answer["cursor"]}
        assert ids <= found
        assert client.get("/api/v1/alerts", params={"rule": "other"}).json()["alerts"] == []
        for bad in ({"status": "x"}, {"limit": "-1"}, {"limit": "99999"}, {"cursor": "x"}):
            assert client.get("/api/v1/alerts", params=bad).status_code == 400


def test_silences_over_http(service: Service):
    with service.client(Role.RESPONDER) as client:
        body = {"match": ['host=~"quiet.*"'], "duration": "1h", "reason": "patching"}
        silence = client.post("/api/v1/silences", json=body).json()
        assert fired(service, "quiet1")["status"] == "suppressed"
        assert silence["id"] in [s["id"] for s in client.get("/api/v1/silences").json()["silences"]]
        assert client.delete(f"/api/v1/silences/{silence['id']}").status_code == 200
        assert fired(service, "quiet2")["status"] == "triggered"
        assert client.post("/api/v1/silences", json={**body, "match": []}).status_code == 409
        assert client.post("/api/v1/silences", json={"match": ["x"]}).status_code == 400
        assert client.post("/api/v1/silences", content=b"{").status_code == 400


def test_alertmanager_may_send_its_webhooks(service: Service):
    body = {
        "version": "4", "status": "firing", "receiver": "thalweg",
        "alerts": [{"status": "firing", "labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db1"},
                    "annotations": {"summary": "Disk is full", "runbook_url": "javascript:alert(1)"},
                    "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "x"}],
    }  # fmt: skip
    with service.client(Role.RESPONDER) as client:
        [id] = client.post("/api/v1/webhooks/alertmanager", json=body).json()["alerts"]
        assert client.post("/api/v1/webhooks/alertmanager", json=body).json()["alerts"] == [id]  # it repeats itself
        alert = client.get(f"/api/v1/alerts/{id}").json()
        assert (alert["title"], alert["severity"], alert["runbook"]) == ("Disk is full", "critical", None)
        body["alerts"][0] |= {"status": "resolved", "endsAt": "2026-01-01T01:00:00Z"}
        client.post("/api/v1/webhooks/alertmanager", json=body)
        assert client.get(f"/api/v1/alerts/{id}").json()["resolved_by"] == "auto"
        for bad in ([], {}, {"alerts": [1]}, {"alerts": [{"labels": {}, "startsAt": "soon"}]}):
            assert client.post("/api/v1/webhooks/alertmanager", json=bad).status_code == 400
    assert service.manager.flush(10)
    assert "triggered: Disk is full" in [f"{m.kind}: {m.title}" for m in service.team.messages]


def test_slack_buttons_prove_where_they_come_from(service: Service):
    alert = fired(service, "slack")
    payload = {"user": {"id": "U1", "username": "ada"}, "actions": [{"action_id": "acknowledge", "value": alert["id"]}]}
    body = urlencode({"payload": json.dumps(payload)}).encode()

    def signed(secret: str, stamp: int) -> dict[str, str]:
        base = b"v0:%d:" % stamp + body
        digest = hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": str(stamp), "X-Slack-Signature": f"v0={digest}"}

    with service.client(None) as client:
        now = int(time.time())
        for headers in ({}, signed("wrong", now), signed("slack-secret", now - 4_000)):
            assert client.post("/slack/actions", content=body, headers=headers).status_code == 401
        answer = client.post("/slack/actions", content=body, headers=signed("slack-secret", now))
        again = client.post("/slack/actions", content=body, headers=signed("slack-secret", now))
    assert answer.json()["text"] == "acknowledged"
    assert again.json()["text"] == "slack:ada has acknowledged it already"
    assert service.manager.get(alert["id"]).acknowledged_by == "slack:ada"


def test_live_updates_come_as_they_happen(service: Service):
    seen: list[dict[str, Any]] = []
    alert = fired(service, "live")
    with service.client(Role.VIEWER) as client, client.stream("GET", "/api/v1/stream") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        service.manager.comment(alert["id"], "ada", "x")
        threading.Timer(0.5, service.manager.acknowledge, (alert["id"], "ada")).start()
        for line in stream.iter_lines():
            if line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                if data["id"] == alert["id"]:
                    seen.append(data)
                if seen and seen[-1]["status"] == "acknowledged":
                    break
    assert [one["status"] for one in seen][-2:] == ["triggered", "acknowledged"]


def test_metrics_schedules_and_the_description(service: Service):
    with service.client(Role.VIEWER) as client:
        text = client.get("/metrics").text
        assert 'thalweg_alert_messages_sent_total{channel="team"}' in text
        assert all(line.startswith(("#", "thalweg_")) for line in text.splitlines())
        [schedule] = client.get("/api/v1/schedules").json()["schedules"]
        assert schedule["on_call"] == "ada"
        calendar = client.get("/api/v1/schedules/primary/shifts", params={"format": "ical"})
        assert calendar.text.startswith("BEGIN:VCALENDAR")
        description = client.get("/openapi.json").json()
        assert description["openapi"].startswith("3.1")
        assert set(description["paths"]) >= {"/api/v1/alerts/{id}/{action}", "/api/v1/stream", "/metrics"}
        assert client.get("/api/v1/rules").json()["rules"][0]["id"] == "cpu"
        headers = client.get("/api/v1/alerts").headers
        assert headers["x-content-type-options"] == "nosniff"


def test_the_description_is_whole(service: Service):
    with service.client() as client:
        description = client.get("/openapi.json").json()
        properties = description["components"]["schemas"]["Alert"]["properties"]
        assert set(properties) == set(service.fired("described"))
        actions = description["paths"]["/api/v1/alerts/{id}/{action}"]["post"]
        assert actions["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Alert")
        [action] = [one for one in actions["parameters"] if one["name"] == "action"]
        said = client.post(f"/api/v1/alerts/{service.fired('described')['id']}/x").json()["error"]
        assert said == f"an alert can be asked to {', '.join(action['schema']['enum'])}"
    paths = {route.path for route in service.routes}
    assert paths == set(description["paths"])


def test_a_channel_can_be_tested(service: Service):
    with service.client() as client:
        assert client.post("/api/v1/channels/team/test").json()["sent"] == "team"
        assert client.post("/api/v1/channels/none/test").status_code == 404


def test_too_much_is_refused(service: Service):
    with service.client() as client:
        big = client.post("/api/v1/events", content=b"x" * (6 * 1024 * 1024))
        assert big.status_code == 413
        bad = client.post("/api/v1/events", json={"event": {"cpu": {"deep": 1}, "host": []}})
        assert bad.status_code in (409, 422)
    with httpx.Client(base_url=service.url) as client:
        codes = [client.get("/api/v1/alerts").status_code for _ in range(200)]
    assert 429 in codes
