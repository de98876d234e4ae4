"""Overrides of on-call schedules while alerting runs: on both stores, in all instances, from the next page on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.alerts.service import Service, serving
from tests.unit.alerts.alerting import MINUTE, Clock, Kept, events, made, rule
from thalweg.alerts import AlertManager, EscalationLevel, EscalationPolicy, Person, Rotation, Schedule
from thalweg.alerts.ical import to_ical
from thalweg.alerts.service import Role
from thalweg.errors import ConfigurationError

HOUR, DAY = 60 * MINUTE, 1_440 * MINUTE


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path / 'alerts.db'}"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def instance(url: str, clock: Clock, **settings: Any) -> tuple[AlertManager, Kept, Kept]:
    """A manager by which ada is on call all week, with bob in her schedule."""
    ada, bob = Kept(), Kept()
    manager, _ = made(url, clock, ada=ada, bob=bob)
    people = [Person("ada", ["ada"]), Person("bob", ["bob"])]
    manager.add_schedule(Schedule("primary", people, [Rotation(["ada"], "2026-01-05")], "Europe/Berlin"))
    manager.add_rule(rule(notification_channels=["on-call:primary"], **settings))
    return manager, ada, bob


def test_the_next_page_goes_to_who_stands_in_whichever_instance_sends_it(url: str):
    clock = Clock(at("2026-03-10T12:00+01:00"))
    one, *_ = instance(url, clock)
    other, ada, bob = instance(url, clock)
    other.process_frame(events(("a", 95, 0)))
    other.deliver_due()
    assert (ada.take(), bob.take()) == (["triggered: a"], [])
    override = one.override("primary", "bob", duration="2h", by="eve", reason="dentist")
    other.process_frame(events(("b", 95, 0), first=1))
    other.deliver_due()
    assert (ada.take(), bob.take()) == ([], ["triggered: b"])
    clock.turn(2 * HOUR)
    other.process_frame(events(("c", 95, 0), first=2))
    other.deliver_due()
    assert (ada.take(), bob.take(), other.overrides()) == (["triggered: c"], [], [])
    [entry] = other.history("on-call:primary")
    assert (entry["what"], entry["by"]) == ("override", "eve")
    assert override.id in entry["reason"]
    assert "dentist" in entry["reason"]


def test_an_escalation_finds_who_stands_in_by_then(url: str):
    clock = Clock(at("2026-03-10T12:00+01:00"))
    policy = EscalationPolicy([EscalationLevel("5m", ["on-call:primary"])])
    manager, ada, bob = instance(url, clock, escalation_policy=policy)
    manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    assert ada.take() == ["triggered: a"]
    manager.override("primary", "bob", start="2026-03-10T12:04", end="2026-03-10T12:30", by="eve", reason="x")
    clock.turn(5 * MINUTE)
    manager.deliver_due()
    assert (ada.take(), bob.take()) == ([], ["reminder: Still open: a"])


def test_the_last_one_wins_and_can_be_removed(url: str):
    clock = Clock(at("2026-03-10T12:00+01:00"))
    manager, *_ = instance(url, clock)
    manager.override("primary", "bob", duration="4h", by="eve", reason="training")
    clock.turn(1)
    later = manager.override("primary", "ada", duration="1h", by="ada", reason="I am here after all")

    def on_call() -> str | None:
        person = manager.schedules["primary"].on_call(clock())
        return person and person.name

    assert (on_call(), [o.person for o in manager.overrides("primary")]) == ("ada", ["bob", "ada"])
    manager.remove_override(later.id, by="bob")
    assert on_call() == "bob"
    assert [e["what"] for e in manager.history("on-call:primary")] == ["override", "override", "override removed"]
    with pytest.raises(ConfigurationError, match="there is no override"):
        manager.remove_override(later.id, by="bob")


def test_times_are_by_the_schedule_s_clocks_and_calendars_show_them(url: str):
    """In the night to the 29th of March 2026 Berlin's clocks skip an hour."""
    clock = Clock(at("2026-03-28T12:00+01:00"))
    manager, *_ = instance(url, clock)
    override = manager.override(
        "primary", "bob", start="2026-03-29T01:00", end="2026-03-29T05:00", by="eve", reason="clock change"
    )
    assert (override.start, override.end) == (at("2026-03-29T00:00Z"), at("2026-03-29T03:00Z"))
    text = to_ical(manager.schedules["primary"], clock(), clock() + DAY)
    assert text.count("BEGIN:VEVENT") == 3
    [shift] = [part for part in text.split("BEGIN:VEVENT") if "bob on call" in part]
    assert "DTSTART:20260329T000000Z" in shift
    assert "DESCRIPTION:override: clock change (eve)" in shift


def test_what_makes_no_sense_is_refused(tmp_path: Path):
    manager, *_ = instance("sqlite://", Clock(at("2026-03-10T12:00+01:00")))
    said = {"by": "eve", "reason": "x"}
    for expected, arguments in (
        (
            "there is no schedule 'prim'; did you mean 'primary'",
            {"schedule": "prim", "person": "bob", "duration": "1h"},
        ),
        ("'bab' is not in the schedule 'primary'; did you mean 'bob'", {"person": "bab", "duration": "1h"}),
        ("either an end or a duration", {"person": "bob"}),
        ("either an end or a duration", {"person": "bob", "end": 1, "duration": "1h"}),
        ("ended already", {"person": "bob", "start": 1, "end": 2}),
        ("ends after it starts", {"person": "bob", "start": "2026-04-02T00:00", "end": "2026-04-01T00:00"}),
        ("end of the override is 'soon'", {"person": "bob", "end": "soon"}),
        ("duration of the override", {"person": "bob", "duration": "-1h"}),
    ):
        with pytest.raises(ConfigurationError, match=expected):
            manager.override(**{"schedule": "primary", **said, **arguments})
    assert manager.overrides() == []


def test_who_has_left_the_schedule_keeps_nobody_from_being_told(tmp_path: Path):
    url, clock = f"sqlite:///{tmp_path / 'alerts.db'}", Clock(at("2026-03-10T12:00+01:00"))
    before, *_ = instance(url, clock)
    before.override("primary", "bob", duration="4h", by="eve", reason="x")
    manager, ada, _ = instance(url, clock)
    manager.add_schedule(Schedule("primary", [Person("ada", ["ada"])], [Rotation(["ada"], "2026-01-05")]))
    manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    assert ada.take() == ["triggered: a"]


@pytest.fixture(scope="module")
def service() -> Any:
    with serving() as found:
        yield found


def test_overrides_over_http(service: Service):
    path = "/api/v1/schedules/primary/overrides"
    body = {"person": "ada", "duration": "1h", "reason": "swap"}
    with service.client(Role.VIEWER) as client:
        assert client.get(path).json() == {"overrides": []}
        assert client.post(path, json=body).status_code == 403
    with service.client(Role.RESPONDER) as client:
        found = client.post(path, json=body).json()
        assert (found["by"], found["person"], found["end"] - found["start"]) == ("responder", "ada", HOUR)
        assert [o["id"] for o in client.get(path).json()["overrides"]] == [found["id"]]
        calendar = client.get("/api/v1/schedules/primary/shifts", params={"format": "ical"}).text
        assert "DESCRIPTION:override: swap (responder)" in calendar
        later = client.post(
            path, json={**body, "duration": None, "start": "2100-01-01T08:00", "end": "2100-01-02T08:00"}
        )
        assert later.json()["start"] == at("2100-01-01T08:00Z")
        for status, bad in (
            (409, {**body, "person": "zoe"}),
            (400, {**body, "reason": ""}),
            (400, {**body, "start": []}),
        ):
            assert client.post(path, json=bad).status_code == status
        assert client.post("/api/v1/schedules/other/overrides", json=body).status_code == 404
        assert client.delete(f"{path}/{found['id']}").json() == {"removed": found["id"]}
        assert client.delete(f"{path}/{found['id']}").status_code == 404
    with service.client(Role.ADMIN) as client:
        calls = [c["call"] for c in client.get("/api/v1/audit").json()["calls"]]
        assert {f"POST {path}", f"DELETE {path}/{found['id']}"} <= set(calls)
