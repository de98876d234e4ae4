"""The demo's account of what was found: right also when reports are wrong, late, doubled or missing."""

from __future__ import annotations

from thalweg.demo.attacks import Kind, Scenario, scenarios
from thalweg.demo.score import Run, Score, State, first_whole_tick

SEED = 7
LONG = 1_200
FOREVER = 2**60


def score(last: int = LONG, first: int = 0, earlier: tuple[Run, ...] = ()) -> Score:
    made = Score(Run(SEED, first, 1_000_000, first), earlier)
    made.advance(last)
    return made


def attacks(first: int = 0, last: int = LONG) -> list[Scenario]:
    return [s for s in scenarios(SEED, first, last) if s.kind.attack and s.last_tick <= last]


def test_all_found() -> None:
    s = score()
    for attack in attacks():
        due = s.run.time_of(attack.detectable_tick)
        assert s.report(attack.kind, attack.key, due, due + 40)
        assert not s.report(attack.kind, attack.key, due, due + 90), "a second report of the same"
    summary = s.summary(FOREVER)
    assert (summary.found, summary.due) == (len(attacks()), len(attacks()))
    assert summary.clean
    assert str(summary) == f"{summary.found} of {summary.due} found, 0 others"
    assert {v.delay for v in s.verdicts(FOREVER) if v.state is State.FOUND} == {40}


def test_a_missed_one_is_missed_only_when_the_watermark_has_passed_it() -> None:
    s = score()
    first = attacks()[0]
    end = s.run.time_of(first.last_tick)
    assert s.verdicts(end)[0].state is State.UNDER_WAY
    assert s.summary(end).clean
    assert s.verdicts(end + 1)[0].state is State.MISSED
    assert not s.summary(end + 1).clean
    assert "1 missed" in str(s.summary(end + 1))


def test_reports_that_no_attack_explains() -> None:
    s = score()
    decoy = next(x for x in scenarios(SEED, 0, LONG) if x.kind is Kind.TYPO)
    s.report(Kind.BRUTE_FORCE, decoy.key, 0, 0)
    s.report(Kind.FRAUD, "user-0001", 0, 0)
    summary = s.summary(0)
    assert summary.others == [f"brute force {decoy.key}", "payment fraud user-0001"]
    assert not summary.clean
    assert next(v for v in s.verdicts(0) if v.scenario == decoy).state is State.FALSE


def test_look_alikes_are_counted_when_they_are_over() -> None:
    s = score()
    quiet = [x for x in scenarios(SEED, 0, LONG) if not x.kind.attack and x.last_tick <= LONG]
    assert s.summary(s.run.time_of(LONG)).look_alikes == len([x for x in quiet if x.last_tick < LONG])


def test_what_is_to_come_is_shown_on_request() -> None:
    s = score(last=10)
    assert s.verdicts(0) == []
    assert [v.state for v in s.verdicts(0, ahead=60)] == [State.COMING, State.COMING]


def test_a_stop_in_the_middle_of_an_attack_cuts_none() -> None:
    for attack in attacks():
        for stopped in range(attack.first_tick, attack.last_tick):
            resumed = first_whole_tick(SEED, stopped + 1)
            assert resumed > attack.last_tick
            cut = [s for s in attacks(resumed, resumed) if s.first_tick < resumed]
            assert cut == []
    assert first_whole_tick(SEED, 0) == 0


def test_what_an_earlier_run_left_behind_is_no_false_alarm() -> None:
    earlier = Run(SEED, 0, 500_000, 40)
    left = attacks(0, 100)[0]
    s = score(first=first_whole_tick(SEED, 41), last=300, earlier=(earlier,))
    s.report(left.kind, left.key, 0, 0)
    assert s.summary(0).others == []
    assert left not in [v.scenario for v in s.verdicts(0)], "and it counts for the run that sent it"
