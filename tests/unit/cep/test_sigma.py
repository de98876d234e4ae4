"""Sigma rules: detections over columns, correlation rules in a stream, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from thalweg import App
from thalweg.cep import RuleEngine
from thalweg.cep.correlate import load_sigma
from thalweg.errors import ConfigurationError
from thalweg.streams.testing import TestDriver

HEAD = "title: T\nname: t\nlogsource: {product: windows}\ndetection:\n"

EVENTS = pl.DataFrame(
    {
        "User": ["Admin", "bob", None, "svc-x"],
        "EventID": [4625, 4624, 4625, None],
        "Ip": ["10.1.2.3", "192.168.0.9", "10.0.0.256x", None],
        "Cmd": ["powershell -enc AAA", "cmd.exe", "POWERSHELL", ""],
        "Owner": ["Admin", "alice", None, "svc"],
        "Code": ["YWRtaW4=", "eHNlY3JldHg=", "eHhzZWNyZXR4", None],  # admin, xsecretx, xxsecretx
    }
)


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ("  s: {EventID: 4625}\n  condition: s", [0, 2]),
        ("  s: {EventID: ['4625', 4624]}\n  condition: s", [0, 1, 2]),
        ("  s: {EventID: 4625, User: admin}\n  condition: s", [0]),
        ("  s: {User: admin}\n  condition: not s", [1, 2, 3]),
        ("  s: {User|cased: admin}\n  condition: s", []),
        ("  s: {User: null}\n  condition: s", [2]),
        ("  s: {User|exists: false}\n  condition: s", [2]),
        ("  s: {User|contains: M}\n  condition: s", [0]),
        ("  s: {User|startswith: SVC}\n  condition: s", [3]),
        ("  s: {Cmd: 'power*?AA'}\n  condition: s", [0]),
        ("  s: {Cmd: '*shell*'}\n  condition: s", [0, 2]),
        ("  s: {Cmd: ''}\n  condition: s", [3]),
        ("  s: {Cmd|re: '^power.*\\s'}\n  condition: s", [0]),
        ("  s: {Cmd|re|i: '^power'}\n  condition: s", [0, 2]),
        ("  s: {Ip|cidr: 10.0.0.0/8}\n  condition: s", [0]),
        ("  s: {EventID|gte: 4625}\n  condition: s", [0, 2]),
        ("  s: {EventID|neq: 4625}\n  condition: s", [1, 3]),
        ("  s: {Cmd|windash|contains: ' /enc'}\n  condition: s", [0]),
        ("  s: {Cmd|windash|contains: ' -enc'}\n  condition: s", [0]),
        ("  s: {Code|base64: admin}\n  condition: s", [0]),
        ("  s: {Code|base64offset|contains: secret}\n  condition: s", [1, 2]),
        ("  s: {EventID|lt: 4625}\n  condition: s", [1]),
        ("  s: {User|fieldref: Owner}\n  condition: s", [0]),
        ("  s: {Cmd|contains|all: [power, enc]}\n  condition: s", [0]),
        ("  a1: {User: bob}\n  a2: {User: admin}\n  condition: 1 of a*", [0, 1]),
        ("  a1: {User: bob}\n  a2: {EventID: 4624}\n  condition: all of a*", [1]),
        ("  a:\n    - User: bob\n    - Cmd: ''\n  condition: a", [1, 3]),
    ],
)
def test_detections(detection: str, expected: list[int]):
    rules = RuleEngine(load_sigma(HEAD + detection).rules)
    assert rules.evaluate(EVENTS).rows.tolist() == expected


def test_a_detection_becomes_a_rule():
    [rule] = load_sigma(
        "title: Many failed logins\nid: 4d9a3a2c-0000-4000-8000-000000000001\nlevel: high\ntags: [attack.t1110]\n"
        "description: Somebody tries\nlogsource: {product: windows}\ndetection: {s: {EventID: 1}, condition: s}\n"
    ).rules
    assert (rule.id, rule.name, rule.priority) == ("4d9a3a2c-0000-4000-8000-000000000001", "Many failed logins", 80)
    assert (rule.tags, rule.description) == (("attack.t1110",), "Somebody tries")


CORRELATIONS = """
title: Failed login
name: failed
logsource: {product: windows}
detection: {s: {EventID: 4625}, condition: s}
---
title: Successful login
name: success
logsource: {product: windows}
detection: {s: {EventID: 4624}, condition: s}
---
title: Brute force
name: brute_force
correlation:
  type: event_count
  rules: [failed]
  group-by: [User]
  timespan: 5m
  condition: {gt: 2}
---
title: Brute force that got in
name: got_in
correlation:
  type: temporal_ordered
  rules: [brute_force, success]
  group-by: [who]
  timespan: 1h
  aliases:
    who: {brute_force: User, success: User}
---
title: Spraying
name: spraying
correlation:
  type: value_count
  rules: [failed]
  group-by: [Ip]
  timespan: 5m
  condition: {field: User, gte: 3}
---
title: Both
name: both
correlation: {type: temporal, rules: [failed, success], group-by: [User], timespan: 10s}
"""


def event(seconds: int, id: int, user: str, ip: str = "a") -> dict[str, Any]:
    return {"ts": seconds * 1000, "event_id": id, "user": user, "ip": ip}


def test_correlations_in_a_stream():
    fields = {"EventID": "event_id", "User": "user", "Ip": "ip"}
    sigma = load_sigma(CORRELATIONS, fields=fields)
    assert [c.id for c in sigma.correlators] == ["brute_force", "spraying", "both", "got_in"]
    events = App("t").stream("events", schema={"ts": int, "event_id": int, "user": str, "ip": str}, timestamp="ts")
    found = sigma.correlate(events)
    driver = TestDriver(*found.values())
    driver.send([event(n, 4625, "x") for n in range(3)])
    driver.send([event(10, 4625, "y"), event(11, 4625, "z"), event(12, 4624, "y"), event(100, 4624, "x")])
    driver.end()
    outputs = {name: driver.output(stream) for name, stream in found.items()}
    assert outputs["brute_force"].select("user", "count", "window_end").rows() == [("x", 3, 2000)]
    assert outputs["got_in"].select("user", "window_start", "window_end").rows() == [("x", 2000, 100_000)]
    assert outputs["spraying"].select("ip", "count").rows() == [("a", 5)]
    assert outputs["both"].select("user", "streams").rows() == [("y", ["failed", "success"])]


def test_rules_come_from_a_folder(tmp_path: Path):
    for number, text in enumerate(CORRELATIONS.split("---")):
        (tmp_path / f"{number}.yml").write_text(text)
    assert len(load_sigma(tmp_path).correlators) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "  s: [word, other]\n  condition: s", "keywords without a field"),
        (HEAD + "  s: {Ip|cidr: '2001:db8::/32'}\n  condition: s", "IPv6 network"),
        (HEAD + "  s: {Cmd|re: '(?=x)'}\n  condition: s", "(?=x)' is invalid"),
        (HEAD + "  s: {a: 1}\n  condition: nope", "nope"),
        ("title: x\ndetection: {}\n", "log source"),
        ("[\n", "Sigma rules"),
        (HEAD + "  s: {a: 1}\n  condition: s\n---\n" + HEAD + "  s: {a: 1}\n  condition: s\n", "two are called 't'"),
        (
            CORRELATIONS.replace("{gt: 2}", "{lt: 2}"),
            "Sigma rule 'brute_force': a correlation's condition is gte or gt, not lt",
        ),
        (CORRELATIONS.replace("type: temporal,", "type: frobnicate,"), "frobnicate"),
    ],
)
def test_what_can_not_be_said_is_refused(text: str, says: str):
    with pytest.raises(ConfigurationError) as caught:
        load_sigma(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("detection", "says"),
    [
        ("s: {User|expand: 'a%names%'}", "the placeholder %names%"),
        ("s: {Time|hour: 3}", "TimestampPart"),
        ("s: {Ip|cidr: 'fe80::/10'}", "IPv6"),
        ("s: {Cmd|re: '(?=x)'}", "(?=x)"),
        ("s: {Cmd|nonsense: x}", "nonsense"),
        ("s: {User: x}\n  timeframe: 5m", "timeframe"),
    ],
)
def test_what_detections_lack_is_refused(detection: str, says: str):
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        load_sigma(f"{HEAD}  {detection}\n  condition: s\n")


@pytest.mark.parametrize(
    ("kind", "condition", "says"),
    [
        *((f"value_{what}", "{gte: 3, field: n}", f"value_{what}") for what in ("sum", "avg", "percentile", "median")),
        *(("event_count", f"{{{operator}: 3}}", operator) for operator in ("lt", "lte", "eq", "neq")),
        ("value_count", "{gte: 3, field: [a, b]}", "values of one field"),
    ],
)
def test_what_correlations_lack_is_refused(kind: str, condition: str, says: str):
    correlation = f"type: {kind}\n  rules: [t]\n  group-by: [User]\n  timespan: 5m\n  condition: {condition}\n"
    with pytest.raises(ConfigurationError, match=says):
        load_sigma(f"{HEAD}  s: {{EventID: 1}}\n  condition: s\n---\ntitle: C\ncorrelation:\n  {correlation}")
