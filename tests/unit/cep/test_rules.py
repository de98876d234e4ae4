"""Rules against a plain reading of their definition; actions, reloading, decision tables, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import App, col
from thalweg.cep import Rule, RuleEngine
from thalweg.cep.actions import Retry
from thalweg.cep.rules import DecisionTable
from thalweg.cep.rules.costs import CostSampler
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.testing import TestDriver

SCHEMA = {"ts": int, "amount": int, "country": str}
EVENTS: list[dict[str, Any]] = [
    {"ts": 1, "amount": 5, "country": "DE"},
    {"ts": 2, "amount": 20_000, "country": "FR"},
    {"ts": 3, "amount": None, "country": "FR"},
]


def expected(rules: list[Rule], events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """The firings by the definition: event by event, rule by rule."""
    found = []
    for row, event in enumerate(events):
        groups: set[str] = set()
        for rule in sorted(rules, key=lambda r: -r.priority):
            threshold = int(rule.name)
            if not rule.enabled or event["n"] is None or event["n"] < threshold or rule.group in groups:
                continue
            found.append((row, rule.id))
            if rule.group is not None:
                groups.add(rule.group)
            if rule.stop:
                break
    return found


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    rules = []
    for number in range(draw(st.integers(0, 6))):
        threshold = draw(st.integers(0, 5))
        condition = draw(
            st.sampled_from(
                [
                    f"n >= {threshold}",
                    pl.col("n") >= threshold,
                    lambda e, t=threshold: e.n >= t,
                    lambda e, t=threshold: e.n is not None and int(str(e.n)) >= t,
                ]
            )
        )
        rules.append(
            Rule(
                id=f"r{number}",
                name=str(threshold),
                condition=condition,
                priority=draw(st.integers(0, 2)),
                enabled=draw(st.booleans()) or draw(st.booleans()),
                stop=draw(st.booleans()) and draw(st.booleans()),
                group=draw(st.sampled_from([None, None, "g", "h"])),
            )
        )
    return rules


@settings(max_examples=40, deadline=None)
@given(rules=rule_sets(), numbers=st.lists(st.one_of(st.none(), st.integers(0, 6)), min_size=1, max_size=8))
def test_who_fires(rules: list[Rule], numbers: list[int | None]):
    events = [{"n": n} for n in numbers]
    engine = RuleEngine(rules)
    found = engine.evaluate(pl.DataFrame(events, schema={"n": pl.Int64}))
    assert list(zip(found.rows.tolist(), found.fired, strict=True)) == expected(rules, events)
    fired = {stats.rule: stats.fired for stats in engine.stats()}
    assert fired == {rule.id: found.fired.count(rule.id) for rule in rules}


def test_matches_carry_the_event_and_the_rule():
    engine = RuleEngine([Rule(id="high", name="High", priority=9, condition=lambda e: e.amount > 10_000)])
    result = engine.evaluate(EVENTS)
    assert result.matches.to_dicts() == [
        {**EVENTS[1], "rule": "high", "rule_name": "High", "priority": 9, "rule_version": 1}
    ]
    assert not result.errors


def test_in_a_stream_for_every_batch_size():
    seen: list[Any] = []
    for size in (1, 2, None):
        seen.clear()
        rules = RuleEngine()
        rules.add_rule(Rule(id="fr", condition="country == 'FR'", action=lambda e: seen.append((e.ts, e.key))))
        rules.add_rule(
            Rule(id="high", priority=5, condition=col("amount") > 100, action=lambda e, r: seen.append(r.id))
        )
        stream = App("t").stream("payments", schema=SCHEMA, timestamp="ts").key_by("country").apply_rules(rules)
        driver = TestDriver(stream, batch_size=size)
        driver.send(EVENTS)
        assert driver.output().select("ts", "rule").rows() == [(2, "high"), (2, "fr"), (3, "fr")]
        assert seen == ["high", (2, "FR"), (3, "FR")]
        assert all(account.closes for account in driver.accounts().values())


def test_a_condition_that_raises_and_an_action_that_fails_are_dead_letters_and_the_others_go_on():
    calls: list[str] = []

    def fails(event: Any) -> None:
        calls.append("fails")
        raise OSError("channel is down")

    async def works(event: Any) -> None:
        await asyncio.sleep(0)
        calls.append("works")

    rules = RuleEngine(
        [
            Rule(id="bad", condition=lambda e: {"DE": False}[e.country]),
            Rule(id="fails", condition="amount > 0", action=fails),
            Rule(id="works", condition="amount > 100", action=[works, works]),
        ],
        retry=Retry(attempts=3, delay=1),
    )
    stream = App("t").stream("payments", schema=SCHEMA, timestamp="ts").apply_rules(rules)
    driver = TestDriver(stream)
    driver.send(EVENTS)
    assert driver.output()["rule"].to_list() == ["fails", "fails", "works"]
    letters = driver.dead_letters()
    assert letters.select("offset", "error_class").rows() == [
        (1, "KeyError"), (2, "KeyError"), (0, "ActionFailed"), (1, "ActionFailed"),
    ]  # fmt: skip
    assert "channel is down" in letters["error_message"][3]
    assert '"attempts":3' in letters["details"][2]
    assert sorted(calls) == ["fails"] * 6 + ["works"] * 2
    stats = {s.rule: s for s in rules.stats()}
    assert (stats["fails"].actions, stats["fails"].failures, stats["works"].actions) == (0, 2, 2)
    assert stats["bad"].errors == 2
    assert all(account.closes for account in driver.accounts().values())


def test_an_action_that_fails_once_is_tried_again():
    tries: list[int] = []

    def flaky(event: Any) -> None:
        tries.append(event.ts)
        if len(tries) == 1:
            raise OSError

    result = RuleEngine([Rule(id="r", condition="true", action=flaky)], retry=Retry(delay=1)).evaluate(EVENTS[0])
    assert tries == [1, 1]
    assert not result.failures


def test_inside_an_event_loop():
    seen: list[int] = []

    async def note(event: Any) -> None:
        await asyncio.sleep(0.001)
        seen.append(event.ts)

    rules = RuleEngine([Rule(id="r", condition="true", action=note)], concurrency=2)

    async def main() -> None:
        result = await rules.evaluate_async(EVENTS)
        assert result.fired == ["r"] * 3
        rules.evaluate(EVENTS[0])  # holds the loop up, and works all the same

    asyncio.run(main())
    assert sorted(seen) == [1, 1, 2, 3]
    rules.close()


def test_dry_run_and_profile_call_and_count_nothing():
    rules = RuleEngine([Rule(id="r", condition="amount > 1", action=lambda e: 1 / 0)])
    assert rules.dry_run(EVENTS).fired == ["r", "r"]
    [stats] = rules.profile(EVENTS)
    assert stats.evaluated == stats.fired == 0
    assert stats.condition_ns is not None
    assert stats.condition_ns > 0


YAML = """
rules:
  - id: high
    name: High amount
    priority: 10
    when: amount > 10000
    action: notify
    tags: [fraud]
  - id: french
    when: country == 'FR'
    enabled: {french}
"""


def test_rules_load_from_yaml_and_again_when_the_file_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    seen: list[int] = []
    path = tmp_path / "rules.yaml"
    path.write_text(YAML.format(french="true"))
    rules = RuleEngine(actions={"notify": lambda e: seen.append(e.ts)})
    rules.watch(path, every=0)
    assert rules.evaluate(EVENTS).fired == ["high", "french", "french"]
    assert seen == [2]
    path.write_text(YAML.format(french="false"))
    assert rules.evaluate(EVENTS).fired == ["high"]
    assert {rule.id: rule.version for rule in rules.rules} == {"high": 1, "french": 2}
    before = rules.version
    path.write_text("rules: [{id: high, when: 'amount >'}]")
    assert rules.evaluate(EVENTS).fired == ["high"]
    assert "the rules stay as they were" in caplog.text
    assert "line 1, column 9" in caplog.text
    assert rules.version == before
    assert rules.stats()[0].fired == 3


def test_a_running_job_takes_changed_rules_from_the_next_batch_on():
    rules = RuleEngine([Rule(id="a", condition="amount > 0")])
    stream = App("t").stream("payments", schema=SCHEMA, timestamp="ts").apply_rules(rules)
    driver = TestDriver(stream)
    driver.send(EVENTS[:1])
    rules.replace_rule(Rule(id="a", condition="amount > 10"))
    rules.add_rule(Rule(id="b", condition="amount == null"))
    driver.send(EVENTS)
    rules.remove_rule("b")
    rules.enable("a", False)
    driver.send(EVENTS)
    assert driver.output().select("ts", "rule", "rule_version").rows() == [(1, "a", 1), (2, "a", 2), (3, "b", 1)]


def test_a_rule_that_does_not_fit_the_stream_is_refused_also_later():
    rules = RuleEngine([Rule(id="a", condition="amount > 0")])
    App("t").stream("payments", schema=SCHEMA, timestamp="ts").apply_rules(rules)
    with pytest.raises(ConfigurationError, match=r"rule 'b'.*no column 'colour'"):
        rules.add_rule(Rule(id="b", condition="colour == 'red'"))
    with pytest.raises(PlanError, match="colour"):
        rules.replace_rule(Rule(id="a", condition=col("colour") == "red"))
    assert [(rule.id, rule.version) for rule in rules.rules] == [("a", 1)]


def test_async_actions_that_take_too_long_fail_and_a_function_around_one_is_waited_for():
    seen: list[int] = []

    async def slow(event: Any) -> None:
        await asyncio.sleep(60)

    async def note(event: Any) -> None:
        await asyncio.sleep(0)
        seen.append(event.ts)

    rules = RuleEngine(
        [Rule(id="slow", condition="true", action=slow), Rule(id="around", condition="true", action=lambda e: note(e))],
        retry=Retry(attempts=2, delay=0, timeout=20),
    )
    result = rules.evaluate(EVENTS[0])
    assert [(f.owner, type(f.error), f.attempts) for f in result.failures] == [("slow", TimeoutError, 2)]
    assert seen == [1]


def test_rules_change_while_others_evaluate():
    rules = RuleEngine([Rule(id="a", condition="n >= 0")])
    frame = pl.DataFrame({"n": range(100)})
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            rules.replace_rule(Rule(id="a", condition=f"n >= {rules.version % 2}"))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert {len(rules.evaluate(frame)) for _ in range(50)} <= {99, 100}
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [{id: a}]", "missing required field `when`"),
        ("rules: [{id: a, when: 'true', whne: 3}]", "unknown field `whne`"),
        ("rules: [{id: a, when: 'true', action: notfy}]", "did you mean 'notify'"),
        ("rules: [{id: a, when: 'true'}, {id: a, when: 'true'}]", "two rules 'a'"),
        ("rules: [{id: a, when: 'n >'}]", "rule 'a': line 1, column 4"),
        ("rules: [", "rules.yaml"),
        ("rules: [{id: a, when: 3}]", "Expected `str`"),
    ],
)
def test_files_are_taken_whole_or_not_at_all(tmp_path: Path, text: str, says: str):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    rules = RuleEngine([Rule(id="old", condition="true")], actions={"notify": print})
    with pytest.raises(ConfigurationError) as caught:
        rules.load(path)
    assert says in str(caught.value)
    assert [rule.id for rule in rules.rules] == ["old"]


def test_what_does_not_fit_is_refused_in_the_users_line():
    stream = App("t").stream("payments", schema=SCHEMA, timestamp="ts")
    with pytest.raises(ConfigurationError, match="rule 'a': line 1, column 1: the events have no column 'amont'"):
        stream.apply_rules(RuleEngine([Rule(id="a", condition="amont > 3")]))
    with pytest.raises(PlanError, match="amont"):
        stream.apply_rules(RuleEngine([Rule(id="a", condition=lambda e: e.amont > 3)]))
    with pytest.raises(PlanError, match="have a column 'rule'"):
        stream.with_columns(rule=pl.lit(1)).apply_rules(RuleEngine([Rule(id="a", condition="true")]))
    with pytest.raises(ConfigurationError, match="already"):
        RuleEngine([Rule(id="a", condition="true"), Rule(id="a", condition="true")])
    with pytest.raises(ConfigurationError, match="did you mean 'a'"):
        RuleEngine([Rule(id="a", condition="true")]).remove_rule("aa")
    with pytest.raises(ConfigurationError, match="no condition"):
        Rule(id="a")


def test_without_a_schema_a_rule_about_a_missing_column_matches_nothing(caplog: pytest.LogCaptureFixture):
    rules = RuleEngine([Rule(id="a", condition="colour == 'red'"), Rule(id="b", condition="amount > 1")])
    assert rules.evaluate(EVENTS).fired == ["b", "b"]
    assert "no column 'colour'" in caplog.text
    assert rules.evaluate({**EVENTS[0], "colour": "red"}).fired == ["a", "b"]


def test_decision_tables():
    table = DecisionTable.of(
        {"amount": ["> 1000", "> 1000", ""], "country": ["'FR','IT'", "", ""]},
        {"risk": ["'high'", "'medium'", "'low'"], "limit": ["amount / 2", "0", "0"]},
    )
    assert table.decide({"amount": 5000, "country": "FR"}) == {"risk": "high", "limit": 2500}
    stream = App("t").stream("payments", schema=SCHEMA, timestamp="ts").map(table)
    driver = TestDriver(stream)
    driver.send(EVENTS[:2])
    assert driver.output()["risk"].to_list() == ["low", "high"]
    rules = RuleEngine([Rule(id="risky", condition=lambda e: table.decide(e)["risk"] == "high")])
    assert rules.evaluate(EVENTS[:2]).rows.tolist() == [1]
    collect = DecisionTable.of({"amount": ["> 1", "> 2"]}, {"n": ["1", "2"]}, hit_policy="collect")
    assert collect({"amount": 9})["decisions"] == [{"n": 1}, {"n": 2}]


def test_a_decision_table_with_a_cell_that_can_not_be_read_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="row 1, column 'amount': '>>> 3' can't be read"):
        DecisionTable.of({"amount": [">>> 3"]}, {"risk": ["1"]})
    with pytest.raises(ConfigurationError, match="not a JSON decision model"):
        DecisionTable({})
    with pytest.raises(ConfigurationError, match="not a JSON decision model"):
        DecisionTable(tmp_path / "missing.json")
    with pytest.raises(ConfigurationError, match="as many cells"):
        DecisionTable.of({"amount": ["1", "2"]}, {"risk": ["1"]})


def test_what_conditions_cost_is_known_while_they_run_and_measuring_stays_cheap():
    frame = pl.DataFrame({"n": range(50_000)})
    calls = 0

    def per_row(event: Any) -> bool:
        nonlocal calls
        calls += 1
        return {0: True}.get(event.n, False)

    rules = RuleEngine([Rule(id=f"r{n}", condition=f"n % {n + 2} == 0") for n in range(20)])
    rules.evaluate(frame)
    batches = 1
    while any(stats.condition_ns is None for stats in rules.stats()):
        rules.evaluate(frame)
        batches += 1
        assert batches < 20_000
    assert batches > 1  # not all in the first batch: that would be as much work again
    assert all(stats.condition_ns is not None and stats.condition_ns > 0 for stats in rules.stats())
    rules.add_rule(Rule(id="python", condition=per_row))
    rules.evaluate(frame[:100])
    (python,) = [stats for stats in rules.stats() if stats.rule == "python"]
    assert calls == 100
    assert python.condition_ns is not None


def test_measuring_costs_takes_its_share_and_no_more():
    class Clocked:
        """Twenty rules that take 1 ms each by themselves."""

        rules = [None] * 20

        def time_of(self, number: int, frame: pl.DataFrame) -> int:
            return 1_000_000

    sampler, frame = CostSampler(), pl.DataFrame({"n": [1, 2]})
    measured = [found for _ in range(10_000) for found in sampler.after(Clocked(), frame, 10_000_000)]  # type: ignore[arg-type]
    assert 0.9 * 1_000 <= len(measured) <= 1.1 * 1_000  # 100 s of batches, a hundredth of that, 1 ms each
    assert {number for number, _ in measured} == set(range(20))
    assert measured[0][1] == 500_000
