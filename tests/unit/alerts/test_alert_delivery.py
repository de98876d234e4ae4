"""Channels that fail, templates that are hostile, limits: nothing is lost, nothing is told out of turn."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.alerts.alerting import MINUTE, Kept, events, made, rule

from thalweg.alerts import Alert, ChannelLimits, DeliveryError, EmailChannel, Kind, Message, Severity, Status
from thalweg.alerts.channels.slack import blocks
from thalweg.errors import ConfigurationError


def test_a_channel_that_is_down_for_an_hour_is_told_all_of_it_with_the_same_keys():
    team = Kept()
    manager, clock = made()
    tried: list[str] = []
    team.look = lambda message: tried.append(message.key)
    manager.add_channel("team", team, limits=ChannelLimits(failures=3, pause="10s", longest_pause="1m"))
    manager.add_rule(rule())
    team.broken = DeliveryError("connection refused")
    found, _ = manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(5)]))
    for _ in range(600):
        clock.turn(6_000)
        manager.deliver_due()
    team.broken = None
    for _ in range(60):
        clock.turn(10_000)
        manager.deliver_due()
    assert sorted(m.incident for m in team.messages) == sorted(alert.id for _, alert in found)
    assert set(tried) == {m.key for m in team.messages}


def test_a_breaker_leaves_a_broken_channel_alone():
    team = Kept()
    manager, clock = made()
    manager.add_channel("team", team, limits=ChannelLimits(failures=3, pause="1m"))
    manager.add_rule(rule())
    team.broken = DeliveryError("down")
    manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(10)]))
    manager._worker.run_due("team")
    assert manager.delivery_figures().blocked == {"team"}
    assert manager._sender.blocked("team", clock.now) > 0
    clock.turn(MINUTE)
    assert manager.delivery_figures().blocked == frozenset()


def test_final_failures_are_given_up_and_said():
    team = Kept()
    manager, _ = made(team=team)
    manager.add_rule(rule())
    team.broken = DeliveryError("no such address", final=True)
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    [note] = manager.notifications(alert.id)
    assert (note.state, note.error) == ("failed", "no such address")
    assert "no such address" in manager.explain(alert.id)


def test_what_the_other_side_asks_for_is_waited_for():
    team = Kept()
    manager, clock = made(team=team)
    manager.add_rule(rule())
    team.broken = DeliveryError("slow down", retry_after=120)
    manager.process_frame(events(("a", 95, 0)))
    manager.deliver_due()
    team.broken = None
    clock.turn(119_000)
    assert manager.deliver_due() == 0
    clock.turn(2_000)
    assert manager.deliver_due() == 1


def test_a_rate_limit_spreads_messages_and_loses_none():
    team = Kept()
    manager, clock = made()
    manager.add_channel("team", team, limits=ChannelLimits(per_minute=60))
    manager.add_rule(rule())
    manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(20)]))
    sent = [manager.deliver_due()]
    for _ in range(30):
        clock.turn(1_000)
        sent.append(manager.deliver_due())
    assert sent[0] == 6
    assert max(sent[1:]) == 1
    assert sum(sent) == 20


HOSTILE = "<script>x</script> <!channel> \r\nBcc: evil@example.org {{ 7*7 }} \x1b[31m"


def message(**event: Any) -> Message:
    alert = Alert(
        "id", "rule", "v", "Name", Severity.HIGH, Status.TRIGGERED, "f", {"host": HOSTILE, **event}, 0, 0,
        {"team": HOSTILE}, headline=HOSTILE, text=HOSTILE,
    )  # fmt: skip
    return Message("key", Kind.TRIGGERED, alert)


def test_hostile_values_stay_values_in_an_email():
    channel = EmailChannel("localhost", sender="a@example.org", to=["b@example.org"])
    mail = channel.compose(message())
    assert mail["Bcc"] is None
    assert "\n" not in mail["Subject"]
    [html] = [part.get_content() for part in mail.walk() if part.get_content_type() == "text/html"]
    assert "<script>" not in html
    [plain] = [part.get_content() for part in mail.walk() if part.get_content_type() == "text/plain"]
    assert not any(line.startswith("Bcc:") for line in plain.partition("Rule:")[2].splitlines())
    assert mail["Message-ID"] == channel.compose(message())["Message-ID"]


def test_hostile_values_stay_values_in_slack():
    shown = str(blocks(message(), buttons=True))
    assert "<!channel>" not in shown
    assert "&lt;!channel&gt;" in shown
    assert all(len(str(block)) < 4_000 for block in blocks(message(big="x" * 100_000), buttons=True))


def test_templates_see_values_and_nothing_else():
    manager, _ = made(team=Kept())
    manager.add_rule(rule(title="{{ event.host }}", text="{{ event.missing.deeper }} {{ ''.__class__ }} {{ 1/0 }}"))
    [(_, alert)], _ = manager.process_frame(events((HOSTILE, 95, 0)))
    assert alert.title == HOSTILE  # not evaluated a second time
    assert alert.text.startswith("(text of rule 'cpu' can't be shown: ")
    manager.replace_rules([rule(text="{{ event.missing.deeper }}", title="{{ ''.__class__.__mro__ }}")])
    [(_, alert)], _ = manager.process_frame(events(("b", 95, 1), first=1))
    assert alert.text == "<missing.deeper?>"
    assert alert.title == (
        "(title of rule 'cpu' can't be shown: "
        "SecurityError: access to attribute '__class__' of 'str' object is unsafe.)"
    )


def test_a_password_is_not_sent_in_the_open():
    with pytest.raises(ConfigurationError, match="without encryption"):
        EmailChannel("localhost", sender="a@example.org", to=["b@example.org"], security="none", user="a", password="b")
