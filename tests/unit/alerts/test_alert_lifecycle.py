"""What people do with alerts, by a clock that stands still until it is turned."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.alerts.alerting import MINUTE, Kept, events, made, rule

from thalweg.alerts import DeliveryError, EscalationLevel, EscalationPolicy, Severity, Status
from thalweg.errors import ConfigurationError

POLICY = EscalationPolicy([EscalationLevel("5m", ["boss"]), EscalationLevel("10m", ["director"])], repeat=1)


def test_everything_that_people_do_is_audited():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(severity="high"))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    clock.turn(1)
    manager.comment(alert.id, "ada", "looking")
    manager.assign(alert.id, "bob", "ada")
    manager.acknowledge(alert.id, "bob", "on it")
    manager.resolve(alert.id, "bob", "restarted")
    manager.reopen(alert.id, "ada", "again")
    manager.deliver_due()
    history = [(e["what"], e["by"], e["reason"]) for e in manager.history(alert.id)]
    people = [entry for entry in history if entry[1]]
    assert people == [
        ("comment", "ada", "looking"),
        ("assigned", "ada", "to bob"),
        ("acknowledged", "bob", "on it"),
        ("resolved", "bob", "restarted"),
        ("triggered", "ada", "again"),
    ]
    assert history[0] == ("matched", None, f"rule cpu version {alert.rule_version}")
    told = manager.explain(alert.id)
    assert "matched: rule cpu" in told
    assert "routed: the rule's channels: team" in told
    assert "resolved by bob: restarted" in told


def test_what_cannot_be_is_refused_with_the_reason():
    manager, _ = made(team=Kept())
    manager.add_rule(rule())
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.resolve(alert.id, "ada")
    with pytest.raises(ConfigurationError, match="is resolved; it can't become acknowledged"):
        manager.acknowledge(alert.id, "bob")
    with pytest.raises(ConfigurationError, match="there is no alert 'x'"):
        manager.resolve("x", "ada")
    with pytest.raises(ConfigurationError, match="needs a text"):
        manager.comment(alert.id, "ada", "  ")


def test_follow_ups_refer_to_the_first_message_and_come_in_order():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule())
    team.broken = DeliveryError("down")
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    team.broken = None
    manager.acknowledge(alert.id, "ada")
    manager.deliver_due()
    clock.turn(10 * MINUTE)
    manager.deliver_due()
    assert team.take() == []  # nobody is paged for what somebody has taken, nor told the end of an unknown story
    [(_, other)], _ = manager.process_frame(events(("b", 95, 0), first=1))
    manager.deliver_due()
    manager.acknowledge(other.id, "ada")
    manager.resolve(other.id, "ada")
    manager.deliver_due()
    assert [m.reference for m in team.messages] == [None, *[f"reference-{other.id}"] * 2]
    assert team.take() == ["triggered: b", "acknowledged: Acknowledged: b", "resolved: Resolved: b"]


def test_escalation_goes_up_until_somebody_acknowledges():
    team, boss, director = Kept(), Kept(), Kept()
    manager, clock = made(team=team, boss=boss, director=director)
    manager.add_rule(rule(escalation_policy=POLICY))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    assert manager.deliver_due() == 1
    steps = [(5, boss), (10, director), (5, boss), (10, director)]
    for minutes, channel in steps:
        clock.turn(minutes * MINUTE - 1)
        assert manager.deliver_due() == 0
        clock.turn(1)
        assert manager.deliver_due() == 1
        assert channel.take() == ["reminder: Still open: a"]
    clock.turn(1_000 * MINUTE)
    assert manager.deliver_due() == 0
    assert manager.get(alert.id).status is Status.TRIGGERED


def test_an_acknowledgement_stops_what_is_pending_at_once():
    boss = Kept()
    manager, clock = made(team=Kept(), boss=boss, director=Kept())
    manager.add_rule(rule(escalation_policy=POLICY))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    clock.turn(5 * MINUTE)  # the step is due, and not yet done
    manager.acknowledge(alert.id, "ada")
    manager.deliver_due()
    assert boss.take() == []
    assert manager.store.next_due() is None


def test_a_message_that_is_already_due_is_not_sent_after_an_acknowledgement():
    boss = Kept()
    manager, clock = made(team=Kept(), boss=boss, director=Kept())
    manager.add_rule(rule(escalation_policy=POLICY))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    boss.broken = DeliveryError("down")
    manager.deliver_due()
    clock.turn(5 * MINUTE)
    manager.deliver_due()
    boss.broken = None
    manager.acknowledge(alert.id, "ada")
    clock.turn(5 * MINUTE)
    manager.deliver_due()
    assert boss.take() == []
    [note] = [n for n in manager.notifications(alert.id) if n.channel == "boss" and n.kind == "reminder"]
    assert (note.state, note.error) == ("cancelled", "ada has acknowledged it")


def test_a_snooze_is_quiet_and_then_reminds():
    team, boss = Kept(), Kept()
    manager, clock = made(team=team, boss=boss, director=Kept())
    manager.add_rule(rule(escalation_policy=POLICY))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    team.take()
    manager.snooze(alert.id, "30m", "ada", "lunch")
    clock.turn(30 * MINUTE - 1)
    assert manager.deliver_due() == 0
    clock.turn(1)
    manager.deliver_due()
    assert team.take() == ["reminder: Still open: a"]
    assert boss.take() == ["reminder: Still open: a"]


def test_an_event_rule_resolves_its_alerts_after_a_while():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule(auto_resolve="1h"))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    clock.turn(60 * MINUTE)
    manager.deliver_due()
    assert manager.get(alert.id).resolved_by == "auto"
    clock.turn(1_000)
    manager.deliver_due()
    assert team.take() == ["triggered: a", "resolved: Resolved: a"]


def test_two_changes_at_once_are_both_made(tmp_path: Path):
    manager, _ = made(f"sqlite:///{tmp_path / 'a.db'}", team=Kept())
    manager.add_rule(rule())
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    other, _ = made(f"sqlite:///{tmp_path / 'a.db'}", team=Kept())
    read = manager.store.get

    def meanwhile(ids):  # another process changes the alert after it was read
        found = read(ids)
        if not getattr(manager, "done", False):
            manager.done = True
            other.comment(alert.id, "bob", "me too")
        return found

    manager.store.get = meanwhile
    manager.acknowledge(alert.id, "ada")
    whats = [e["what"] for e in manager.history(alert.id)]
    assert "comment" in whats
    assert whats[-1] == "acknowledged"
    assert manager.get(alert.id).revision == 3


def test_the_auditor_puts_a_lost_escalation_right():
    manager, clock = made(team=Kept(), boss=(boss := Kept()), director=Kept())
    manager.add_rule(rule(escalation_policy=POLICY, severity=Severity.CRITICAL))
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    assert manager.auditor.audit() == 0
    from thalweg.alerts.store import Changes

    manager.store.apply(Changes(done=[f"escalate:{alert.id}"]))  # as a restored backup would
    assert manager.auditor.audit() == 1
    assert manager.auditor.heartbeat() == {"at": clock.now, "checked": 1, "mended": 1}
    clock.turn(5 * MINUTE)
    manager.deliver_due()
    assert boss.take() == ["reminder: Still open: a"]
    assert "audited" in [e["what"] for e in manager.history(alert.id)]
