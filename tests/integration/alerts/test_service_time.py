"""The service over a night in which the clocks are changed: its own threads do what time brings about."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from tests.integration.alerts.service import Service, serving
from tests.integration.alerts.test_serve import until
from tests.unit.alerts.alerting import MINUTE, Clock, rule
from thalweg.alerts import MaintenanceWindow
from thalweg.alerts.service import Role


def clock_at(text: str) -> Clock:
    return Clock(int(datetime.fromisoformat(text).timestamp() * 1000))


def status_of(service: Service, alert: dict[str, Any]) -> str:
    with service.client(Role.VIEWER) as client:
        return str(client.get(f"/api/v1/alerts/{alert['id']}").json()["status"])


def test_maintenance_at_an_hour_that_the_clocks_skip():
    """2:30 does not exist in Berlin on 29 March 2026: what begins then begins at 3:30, and lasts its hour."""
    clock = clock_at("2026-03-29T01:45:00+01:00")
    with serving(clock=clock) as service:
        patching = MaintenanceWindow("patching", ['host=~"web.*"'], ["sun"], "02:30", "1h", "Europe/Berlin")
        service.manager.add_maintenance(patching)
        told = []
        for number, minutes in enumerate((0, 15, 30, 45, 45 + 59, 45 + 60)):
            clock.now = clock_at("2026-03-29T01:45:00+01:00").now + minutes * MINUTE
            told.append(status_of(service, service.fired(f"web{number}")))
        assert told == ["triggered"] * 3 + ["suppressed"] * 2 + ["triggered"]
        assert status_of(service, service.fired("db1")) == "triggered"
        until(lambda: len(service.team.messages) == 5, str(service.team.messages))
        with service.client(Role.VIEWER) as client:
            [silent, _] = client.get("/api/v1/alerts", params={"status": "suppressed"}).json()["alerts"]
            said = client.get(f"/api/v1/alerts/{silent['id']}/explain").json()["explanation"]
            assert "maintenance window 'patching'" in said


def test_a_state_that_outlasts_its_maintenance_is_told_when_that_ends():
    """Of the hour that comes twice in Berlin on 25 October 2026 the first counts: 2:30 to 3:30 is 0:30 to 1:30 UTC."""
    clock = clock_at("2026-10-25T00:40:00+00:00")
    with serving(clock=clock) as service:
        service.manager.add_rule(rule("state", auto_resolve=True, notification_channels=["team"]))
        night = MaintenanceWindow("night", {"host": "web1"}, ["sun"], "02:30", "1h", "Europe/Berlin")
        service.manager.add_maintenance(night)
        with service.client(Role.RESPONDER) as client:
            answer = client.post("/api/v1/events", json={"event": {"host": "web1", "cpu": 95}}).json()
            assert {alert["status"] for alert in answer["alerts"]} == {"suppressed"}
            [state] = [alert for alert in answer["alerts"] if alert["rule"] == "state"]
        clock.now = clock_at("2026-10-25T01:29:00+00:00").now
        time.sleep(1.2)  # the service's threads look twice
        assert not service.team.messages
        clock.now = clock_at("2026-10-25T01:31:00+00:00").now
        until(lambda: bool(service.team.messages), "the state was not told")
        assert status_of(service, state) == "triggered"
        assert [message.alert.id for message in service.team.messages] == [state["id"]]
