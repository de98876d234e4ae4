"""Random patterns and streams: the matches and timeouts of Flink's own automaton, in both engines and after a crash."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.conformance.cep_cases import drive, labels
from tests.flink_cep.flink import answers
from tests.flink_cep.random_cases import Draw

Labels = dict[str, list[int]]


def counted(matches: list[Labels]) -> Counter[str]:
    return Counter(json.dumps({step: sorted(at) for step, at in match.items()}, sort_keys=True) for match in matches)


def spans(matches: list[Labels]) -> Counter[tuple[int, int]]:
    positions = [[at for taken in match.values() for at in taken] for match in matches]
    return Counter((min(at), max(at)) for at in positions)


def ends_open(case: dict[str, Any]) -> bool:
    """Whether an absence at the end comes after something that may go on repeating."""
    steps = case["pattern"]["steps"]
    if steps[-1]["contiguity"] != "not_followed_by":
        return False
    quantifier = steps[-2]["quantifier"]
    return bool(quantifier["min"] != quantifier["max"])


def agree(case: dict[str, Any], mine: list[Labels], theirs: list[Labels]) -> bool:
    """Equal, but for two things that docs/patterns.md explains.

    Of matches that begin and end with the same events a skip lets one go first, which may end the others: in Flink the
    inner order of a heap decides which. And an absence after a loop is certain once `within` has passed; Flink needs a
    further event after the loop's last one.
    """
    if counted(mine) == counted(theirs):
        return True
    skips = case["pattern"]["skip"]["strategy"] != "no_skip"
    if ends_open(case):
        return skips or counted(mine) >= counted(theirs)
    return skips and set(spans(mine)) == set(spans(theirs))


def timeouts_of(case: dict[str, Any]) -> list[tuple[Labels, int]]:
    found = drive(case, None, timeouts=True).timed_out
    return list(zip(labels(found), found.get_column("__ts").to_list(), strict=True)) if found.height else []


def compare(seeds: range) -> int:
    cases = [Draw(seed).case() for seed in seeds]
    compared = 0
    for case, theirs in zip(cases, answers(cases), strict=True):
        if "error" in theirs:
            assert "MalformedPattern" in theirs["error"], (case["id"], theirs)
            continue
        compared += 1
        for way in ({"timeouts": True}, {}, {"timeouts": True, "fault": "crash"}):
            mine = labels(drive(case, 2 if "fault" in way else None, **way).matches)
            assert agree(case, mine, theirs["matches"]), (case["id"], way, mine, theirs)
        if case["pattern"]["skip"]["strategy"] == "no_skip" and not ends_open(case):
            times = {(json.dumps(match, sort_keys=True), at) for match, at in timeouts_of(case)}
            flinks = {(json.dumps(t["labels"], sort_keys=True), t["at_ms"]) for t in theirs["timeouts"]}
            assert times == flinks, case["id"]
    return compared


def test_random_cases_give_what_flink_gives():
    assert compare(range(250)) > 200


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_many_more_random_cases_give_what_flink_gives(block: int):
    assert compare(range(1_000 + 500 * block, 1_500 + 500 * block)) > 400
