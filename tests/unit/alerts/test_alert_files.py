"""Alerting set up from YAML: what it can say, and how it refuses what it can't."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from thalweg.alerts.files import load, read, rules_of
from thalweg.alerts.service.server import check
from thalweg.errors import ConfigurationError

WHOLE = """
store: "sqlite://"
channels:
  team: {type: slack, token: "${TOKEN}", channel: "#ops", limits: {per_minute: 60}}
  page: {type: pagerduty, routing_key: "${TOKEN}"}
  mail: {type: email, host: mail.example.org, sender: thalweg@example.org, to: [ops@example.org]}
schedules:
  - name: primary
    timezone: Europe/Berlin
    people: [{name: ada, channels: [page]}, {name: bob, channels: [mail]}]
    rotations: [{people: [ada, bob], start: "2026-01-05"}]
route:
  channels: [team]
  group_by: [host]
  routes:
    - {match: {severity: critical}, channels: ["on-call:primary"]}
inhibitions:
  - {source: {severity: critical}, target: ["severity!=critical"], equal: [host]}
maintenance:
  - {name: patching, match: {team: core}, days: [sun], start: "02:00", duration: 2h, timezone: Europe/Berlin}
flapping: {alerts: 4, window: 20m}
storm: {limit: 100, window: 1m, channels: [team]}
rules:
  - id: cpu
    name: High CPU
    condition: cpu > 90 && host.startsWith('db')
    clear: cpu < 70
    hold: 1m
    severity: critical
    auto_resolve: true
    by: [host]
    title: "{{ event.host }} at {{ event.cpu }} %"
    runbook: https://example.org/runbook
    suppress: [{window: 5m}, {count: 3, window: 1h}]
    escalation:
      - {delay: 5m, channels: ["on-call:primary"]}
      - {delay: 10m, channels: [team]}
"""


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "very-secret")


def written(folder: Path, text: str) -> Path:
    file = folder / "alerts.yaml"
    file.write_text(text)
    return file


def test_everything_can_be_said_in_a_file(tmp_path: Path):
    monday = int(datetime(2026, 1, 6, tzinfo=UTC).timestamp() * 1000)
    manager = load(written(tmp_path, WHOLE), clock=lambda: monday, deliver=False)
    [rule] = manager.rules
    assert (rule.severity, rule.hold_ms, len(rule.suppression_rules)) == ("critical", 60_000, 2)
    assert rule.escalation_policy.channels == {"on-call:primary", "team"}
    assert "very-secret" not in repr([manager.channel(name) for name in manager.channels])
    asyncio.run(manager.process_event({"cpu": 95, "host": "db1"}, timestamp=0))
    [alert] = asyncio.run(manager.process_event({"cpu": 96, "host": "db1"}, timestamp=60_000))
    assert (alert.title, alert.channels) == ("db1 at 95 %", ("page",))
    manager.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("type: slack", "type: slak"), "channels: team: type 'slak'; there are apprise"),
        (('channel: "#ops"', 'chanel: "#ops"'), "channels: team: unknown setting 'chanel'"),
        (("${TOKEN}", "${NOTHING}"), "environment has no variable NOTHING"),
        (("cpu > 90 &&", "cpu > &&"), "rules: cpu: "),
        (("severity: critical\n    auto", "severity: bad\n    auto"), "rules: cpu: rule 'cpu': severity 'bad'"),
        (("channels: [team]\n  group_by", "channels: [tem]\n  group_by"), "a route names the channel 'tem'"),
        (("people: [ada, bob]", "people: [ada, eve]"), "schedules: 1: schedule 'primary' names eve"),
        (("start: \"02:00\"", "start: noon"), "maintenance: 1: start of maintenance window 'patching' is 'noon'"),
        (("on-call:primary\"]}\n      -", "on-call:secondary\"]}\n      -"), "the on-call schedule 'secondary'"),
        (("flapping:", "flaping:"), "unknown section 'flaping'"),
        (("title: \"{{ event.host }}", "title: \"{{ event.host }"), "title of rule 'cpu'"),
        (("hold: 1m", "hold: soon"), "hold of rule 'cpu' is 'soon'"),
        (("timezone: Europe/Berlin\n    people", "timezone: Europe/Bärlin\n    people"), "time zone 'Europe/Bärlin'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, change: tuple[str, str], said: str):
    assert change[0] in WHOLE
    with pytest.raises(ConfigurationError) as error:
        load(written(tmp_path, WHOLE.replace(*change)), deliver=False)
    assert said in str(error.value)
    assert "alerts.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("keys: [{name: ada, role: amdin, secret: a-long-enough-secret}]", "keys: 1: role 'amdin'"),
        ("keys: [{name: ada, role: admin, secret: short}]", "keys: 1: the secret of 'ada' is too short"),
        ("source: {broker: 'sqlite:///data.db', topik: loads}", "source: it needs `broker` and `topic`"),
        ("source: {broker: 'sqlite:///data.db', topic: loads, kee: x}", "source: unknown setting 'kee'"),
        ("store: mysql://localhost/alerts", "alert store 'mysql://localhost/alerts'"),
    ],
)
def test_a_check_looks_at_all_that_the_service_needs(tmp_path: Path, more: str, said: str):
    rules = "rules: [{id: cpu, name: CPU, condition: cpu > 90}]\n"
    check(written(tmp_path, rules)).close(0)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        check(written(tmp_path, rules + more))


def test_rules_that_can_not_go_together_are_refused_with_the_file(tmp_path: Path):
    rule = "{id: cpu, name: CPU, condition: cpu > 90, auto_resolve: %s}"
    with pytest.raises(ConfigurationError, match=r"alerts.yaml: two rules have the id 'cpu'"):
        load(written(tmp_path, f"rules: [{rule % 'true'}, {rule % 'true'}]"), deliver=False)
    with pytest.raises(ConfigurationError, match=r"alerts.yaml: rules: cpu: auto_resolve of rule 'cpu' is 'yess'"):
        load(written(tmp_path, f"rules: [{rule % 'yess'}]"), deliver=False)


def test_rules_are_replaced_as_a_whole_or_not_at_all(tmp_path: Path):
    file = written(tmp_path, WHOLE)
    manager = load(file, deliver=False)
    version = manager.rules[0].version
    file.write_text(WHOLE.replace("cpu > 90", "cpu > 80"))
    manager.replace_rules(rules_of(read(file), str(file)))
    assert manager.rules[0].version != version
    version = manager.rules[0].version
    bad = WHOLE.replace('[team]}\n"', "").replace("{delay: 10m, channels: [team]}", "{delay: 10m, channels: [nobody]}")
    file.write_text(bad)
    with pytest.raises(ConfigurationError, match="nobody"):
        manager.replace_rules(rules_of(read(file), str(file)))
    assert manager.rules[0].version == version
    manager.close()


CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//x//x//EN
BEGIN:VEVENT
UID:1
DTSTAMP:20260101T000000Z
DTSTART:20260105T090000
DTEND:20260112T090000
SUMMARY:Bob has the pager
END:VEVENT
END:VCALENDAR
"""


def test_a_schedule_from_a_calendar_and_overrides_by_its_clocks(tmp_path: Path):
    (tmp_path / "duty.ics").write_text(CALENDAR.replace("\n", "\r\n"))
    file = written(
        tmp_path,
        """
        store: "sqlite://"
        rules: [{id: a, name: A, condition: "true"}]
        schedules:
          - name: primary
            timezone: Europe/Berlin
            people: [{name: ada, channels: [console]}, {name: bob, channels: [console]}]
            ical: duty.ics
            overrides: [{person: ada, start: "2026-01-06T12:00", end: "2026-01-06T13:00"}]
        """,
    )
    manager = load(file, deliver=False)
    schedule = manager.schedules["primary"]
    hour = 3_600_000
    at = int(datetime(2026, 1, 6, 11, tzinfo=UTC).timestamp() * 1000)  # 12 o'clock in Berlin
    shown = [person.name if (person := schedule.on_call(at + n * hour)) else None for n in (-1, 0, 1, 24 * 7)]
    assert shown == ["bob", "ada", "bob", None]
    manager.close()
    right = file.read_text()
    for old, new, said in (
        ("duty.ics", "gone.ics", "schedules: 1: ical: .*gone.ics: No such file"),
        ('"2026-01-06T12:00"', '"at noon"', "overrides: start is 'at noon'; write a time such as 2026-01-05T09:00"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            load(written(tmp_path, right.replace(old, new)), deliver=False)
