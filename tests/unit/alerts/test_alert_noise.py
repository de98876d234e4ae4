"""What keeps noise from people: silences, maintenance, inhibition, flapping, storms, groups, routes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.unit.alerts.alerting import MINUTE, Clock, Kept, events, made, rule

from thalweg.alerts import (
    FlapDetection,
    Inhibition,
    MaintenanceWindow,
    Override,
    Person,
    Rotation,
    Route,
    Schedule,
    StormProtection,
)
from thalweg.alerts.matching import Matcher, matchers
from thalweg.errors import ConfigurationError


def statuses(manager, frame) -> list[str]:
    return [
        f"{alert.status}" + (f" ({alert.reason})" if alert.reason else "")
        for _, alert in manager.process_frame(frame)[0]
    ]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_silence_holds_from_its_start_to_its_end():
    manager, clock = made(team=(team := Kept()))
    manager.add_rule(rule(labels={"team": "core"}))
    silence = manager.silence(["host=~a.*", "team=core"], "10m", by="ada", reason="patching")
    assert statuses(manager, events(("a1", 95, 0), ("b", 95, 0))) == [
        f"suppressed (silenced by ada ({silence.id}): patching)",
        "triggered",
    ]
    clock.turn(10 * MINUTE)
    assert statuses(manager, events(("a1", 95, 1), first=2)) == ["triggered"]
    assert manager.silences == []
    manager.deliver_due()
    assert team.take() == ["triggered: b", "triggered: a1"]


def test_a_silence_can_be_ended_and_needs_a_matcher():
    manager, _ = made(team=Kept())
    manager.add_rule(rule())
    silence = manager.silence({"host": "a"}, "10m", by="ada", reason="x")
    manager.unsilence(silence.id)
    assert statuses(manager, events(("a", 95, 0))) == ["triggered"]
    with pytest.raises(ConfigurationError, match="silence everything"):
        manager.silence([], "10m", by="ada", reason="x")
    with pytest.raises(ConfigurationError, match="there is no silence"):
        manager.unsilence(silence.id)


@pytest.mark.parametrize(
    ("now", "open"),
    [
        ("2026-01-10T21:59:59+01:00", False),
        ("2026-01-10T22:00:00+01:00", True),  # a Saturday
        ("2026-01-11T01:59:59+01:00", True),  # four hours from 22:00 on
        ("2026-01-11T02:00:00+01:00", False),
        ("2026-01-11T22:30:00+01:00", False),
        ("2026-03-29T01:59:00+01:00", True),
        ("2026-03-29T03:00:00+02:00", False),  # 22:00 and four hours: the clocks went forward
        ("2026-10-24T22:00:00+02:00", True),
        ("2026-10-25T01:59:59+02:00", True),
    ],
)
def test_a_maintenance_window_recurs_by_its_own_clocks(now: str, open: bool):
    window = MaintenanceWindow("w", {"host": "a"}, ["sat"], "22:00", "4h", "Europe/Berlin")
    assert window.open_at(at(now)) is open


def test_a_graver_alert_silences_the_lesser_ones_of_its_host():
    manager, _ = made(team=Kept())
    manager.add_rule(rule("down", severity="critical", condition="cpu == 100"))
    manager.add_rule(rule("busy", severity="low"))
    manager.add_inhibition(Inhibition({"severity": "critical"}, ["severity!=critical"], equal=["host"]))
    found = statuses(manager, events(("a", 100, 0), ("b", 95, 0)))
    critical = manager.list(rule="down")[0].id
    assert found == ["triggered", f"suppressed (inhibited by alert {critical})", "triggered"]
    manager.resolve(critical, "ada")
    assert statuses(manager, events(("a", 95, 1), first=2)) == ["triggered"]


def test_a_state_that_comes_and_goes_is_told_a_few_times():
    manager, _ = made(team=Kept())
    manager.add_rule(rule(auto_resolve=True))
    manager.detect_flapping(FlapDetection(alerts=3, window="10m"))
    rows = [("a", 95 if n % 2 == 0 else 10, n * MINUTE) for n in range(12)]
    found = [f"{a.status}" for _, a in manager.process_frame(events(*rows))[0]]
    # Begun at minutes 0, 2, 4, 6, 8 and 10: within ten minutes of the last one only two were told.
    assert [status for status in found if status != "resolved"] == [
        *["triggered"] * 3,
        *["suppressed"] * 2,
        "triggered",
    ]
    assert statuses(manager, events(("a", 95, 30 * MINUTE), first=20)) == ["triggered"]  # quiet enough again


def test_a_storm_is_told_in_a_digest():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule())
    manager.add_rule(rule("down", severity="critical", condition="cpu == 100"))
    manager.protect_from_storms(StormProtection(5, "1m", ["team"], digest_after="2m"))
    manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(20)]))
    manager.deliver_due()
    assert len(team.take()) == 5
    assert "triggered" in statuses(manager, events(("z", 100, 99), first=50))  # critical ones are told all the same
    manager.deliver_due()
    team.take()
    clock.turn(2 * MINUTE)
    manager.deliver_due()
    [digest] = team.messages
    assert digest.kind == "digest"
    assert digest.note.startswith("storm: 16 alerts were held back: 16 × cpu")
    clock.turn(2 * MINUTE)
    assert statuses(manager, events(("y", 95, 100), first=60)) == ["triggered"]


def test_a_digest_has_the_first_alert_that_was_held_back():
    class Ticking(Clock):
        """Goes on by a millisecond each time that it is looked at, as clocks do."""

        def __call__(self) -> int:
            self.now += 1
            return self.now

    team = Kept()
    manager, clock = made(clock=Ticking(), team=team)
    manager.add_rule(rule())
    manager.protect_from_storms(StormProtection(1, "1h", ["team"], digest_after="1m"))
    for number in range(3):
        manager.process_frame(events((f"h{number}", 95, number), first=number))
    clock.turn(MINUTE)
    manager.deliver_due()
    assert [m.note for m in team.messages if m.kind == "digest"] == ["storm: 2 alerts were held back: 2 × cpu"]


def test_groups_wait_for_others_and_keep_their_distance():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(notification_channels=None, labels={"service": "web"}))
    manager.set_route(Route(channels=["team"], group_by=["service"], group_wait="30s", group_interval="5m"))
    manager.process_frame(events(("a", 95, 0), ("b", 95, 0)))
    clock.turn(10_000)
    manager.process_frame(events(("c", 95, 1), first=5))
    assert manager.deliver_due() == 0
    clock.turn(20_000)
    assert manager.deliver_due() == 1
    [message] = team.messages
    assert sorted(a.event["host"] for a in message.grouped) == ["a", "b", "c"]
    assert message.title.startswith("3 alerts: ")
    team.take()
    manager.process_frame(events(("d", 95, 2), first=6))
    clock.turn(5 * MINUTE - 1)
    assert manager.deliver_due() == 0
    clock.turn(1)
    assert manager.deliver_due() == 1
    assert team.take() == ["triggered: d"]


def test_what_was_acknowledged_while_it_waited_for_its_group_is_left_out():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(notification_channels=None))
    manager.set_route(Route(channels=["team"], group_by=[], group_wait="30s"))
    found, _ = manager.process_frame(events(("a", 95, 0), ("b", 95, 0)))
    manager.acknowledge(found[0][1].id, "ada")
    clock.turn(MINUTE)
    manager.deliver_due()
    assert team.take() == ["triggered: b"]


def test_the_first_route_that_matches_takes_an_alert_unless_it_says_also():
    ops, db, log = Kept(), Kept(), Kept()
    manager, _ = made(ops=ops, db=db, log=log)
    manager.add_rule(rule(notification_channels=None))
    manager.set_route(
        Route(
            channels=["ops"],
            routes=[
                Route(match=["host=~.*"], channels=["log"], also=True),
                Route(match=["host=~db.*"], channels=["db"]),
                Route(match={"host": "db1"}, channels=["ops"]),
            ],
        )
    )
    manager.process_frame(events(("db1", 95, 0), ("web", 95, 0)))
    manager.deliver_due()
    assert (ops.take(), db.take(), sorted(log.take())) == ([], ["triggered: db1"], ["triggered: db1", "triggered: web"])


def test_repeats_stop_with_the_alert():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(notification_channels=None))
    manager.set_route(Route(channels=["team"], repeat_interval="1h"))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    for _ in range(3):
        manager.deliver_due()
        clock.turn(60 * MINUTE)
    manager.deliver_due()
    assert team.take() == ["triggered: a", *["reminder: Still open: a"] * 3]
    manager.resolve(alert.id, "ada")
    manager.deliver_due()
    assert team.take() == ["resolved: Resolved: a"]
    assert manager.store.next_due() is None


def test_whoever_is_on_call_is_told():
    ada, bob = Kept(), Kept()
    clock = Clock(at("2026-01-12T08:59:59+01:00"))
    manager, _ = made(clock=clock, ada=ada, bob=bob)
    people = [Person("ada", ["ada"]), Person("bob", ["bob"])]
    week = Schedule("primary", people, [Rotation(["ada", "bob"], "2026-01-05")], "Europe/Berlin")
    manager.add_schedule(week)
    manager.add_rule(rule(notification_channels=["on-call:primary"]))
    manager.process_frame(events(("x", 95, 0)))
    clock.turn(1_000)
    manager.process_frame(events(("y", 95, 0), first=1))
    manager.deliver_due()
    assert (ada.take(), bob.take()) == (["triggered: x"], ["triggered: y"])


def test_shifts_follow_rotations_hours_overrides_and_clock_changes():
    people = [Person(name, [name]) for name in ("ada", "bob", "eve")]
    night = Rotation(["ada", "bob"], "2026-03-27", days=1, handover="08:00", hours=("20:00", "08:00"))
    schedule = Schedule(
        "night", people, [night], "Europe/Berlin",
        [Override("eve", at("2026-03-29T22:00+02:00"), at("2026-03-29T23:00+02:00"))],
    )  # fmt: skip
    found = schedule.shifts(at("2026-03-28T12:00+01:00"), at("2026-03-30T12:00+02:00"))
    shown = [(datetime.fromtimestamp(s / 1000, UTC).strftime("%d %H:%M"),
              datetime.fromtimestamp(e / 1000, UTC).strftime("%d %H:%M"), p) for s, e, p in found]  # fmt: skip
    assert shown == [
        ("28 19:00", "29 06:00", "bob"),  # 20:00 to 08:00, an hour less of it
        ("29 18:00", "29 20:00", "ada"),
        ("29 20:00", "29 21:00", "eve"),
        ("29 21:00", "30 06:00", "ada"),
    ]


def test_calendars_go_out_and_come_in():
    from thalweg.alerts.ical import from_ical, to_ical

    people = [Person("ada", ["ada"]), Person("bob", ["bob"])]
    week = Schedule("primary", people, [Rotation(["ada", "bob"], "2026-01-05")], "Europe/Berlin")
    start, end = at("2026-01-05T09:00+01:00"), at("2026-01-26T09:00+01:00")
    text = to_ical(week, start, end)
    assert text.count("BEGIN:VEVENT") == 3
    assert from_ical(text, "copy", people).shifts(start, end) == week.shifts(start, end)
    with pytest.raises(ConfigurationError, match="must name exactly one of ada, bob"):
        from_ical(text.replace("ada", "zoe"), "copy", people)


@pytest.mark.parametrize("text", ["", "host", "host~a", 'host=~"("'])
def test_matchers_that_can_not_be_read_are_refused(text: str):
    with pytest.raises(ConfigurationError, match="matcher"):
        Matcher.parse(text)


def test_a_missing_label_is_the_empty_text():
    facts = {"a": "1"}
    assert [m.of(facts) for m in matchers(["b=", "b!=", "b!=x", "a=~1|2"])] == [True, False, True, True]
