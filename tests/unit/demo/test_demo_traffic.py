"""The demo's traffic is the same for the same seed, and hides exactly what it says."""

from __future__ import annotations

import polars as pl
import pytest

from thalweg.demo.attacks import FAILURES, FRAUD_AMOUNT, Kind, scenario, scenarios
from thalweg.demo.traffic import SCHEMAS, Traffic

TICKS = 3_000
START = 1_700_000_000_000


@pytest.fixture(scope="module")
def traffic() -> dict[str, pl.DataFrame]:
    """Five minutes of it."""
    source = Traffic(seed=7, rate=300)
    ticks = [source.tick(number, START + number * 100) for number in range(TICKS)]
    return {topic: pl.concat([tick[topic] for tick in ticks]) for topic in SCHEMAS}


def attacked(kind: Kind, seed: int = 7) -> set[str]:
    """Who must be found in these ticks."""
    return {s.key for s in scenarios(seed, 0, TICKS) if s.kind is kind and s.detectable_tick < TICKS}


def test_same_seed_same_events() -> None:
    one, two = (Traffic(seed=3).tick(40, START) for _ in range(2))
    other = Traffic(seed=4).tick(40, START)
    for topic, schema in SCHEMAS.items():
        assert one[topic].equals(two[topic])
        assert not one[topic].equals(other[topic])
        assert dict(one[topic].schema) == schema


def test_the_rate_is_as_asked(traffic: dict[str, pl.DataFrame]) -> None:
    total = sum(frame.height for frame in traffic.values())
    assert total == pytest.approx(300 * TICKS / 10, rel=0.02)


def test_only_the_brute_force_victims_fail_often(traffic: dict[str, pl.DataFrame]) -> None:
    """By a plain definition, not by the engine: any five failures of a user within a minute."""
    failures = traffic["logins"].filter(~pl.col("success")).sort("user", "ts")
    fifth = pl.col("ts") - pl.col("ts").shift(FAILURES - 1).over("user")
    found = set(failures.filter(fifth < 60_000)["user"])
    assert found == attacked(Kind.BRUTE_FORCE)
    assert len(found) >= 3


def test_only_the_injections_get_through(traffic: dict[str, pl.DataFrame]) -> None:
    requests = traffic["requests"]
    probes = requests.filter(pl.col("url").str.contains("UNION SELECT", literal=True)).group_by("ip").agg(pl.min("ts"))
    after = requests.filter(pl.col("status") == 200).join(probes, on="ip", suffix="_probe")
    found = set(after.filter((pl.col("ts") - pl.col("ts_probe")).is_between(1, 30_000))["ip"])
    assert found == attacked(Kind.INJECTION)
    assert len(found) >= 3
    assert requests["url"].str.contains("union+select", literal=True).any(), "harmless words that look like it"


def test_only_the_frauds_are_large_and_abroad(traffic: dict[str, pl.DataFrame]) -> None:
    large = traffic["payments"].filter(pl.col("amount") > FRAUD_AMOUNT)
    abroad = pl.col("country") != pl.col("home_country")
    assert set(large.filter(abroad)["user"]) == attacked(Kind.FRAUD)
    assert set(large.filter(~abroad)["user"]) == attacked(Kind.AT_HOME)
    assert traffic["payments"].filter(abroad).height > 100


def test_scenarios_of_a_range_are_those_that_touch_it() -> None:
    every = [scenario(7, number) for number in range(300)]
    for first, last in ((0, 0), (50, 120), (900, 901), (2_000, 5_000)):
        expected = [s for s in every if s.first_tick <= last and s.last_tick >= first]
        assert list(scenarios(7, first, last)) == expected
    assert max(s.last_tick - s.first_tick for s in every) < 1_000
    keys = [s.key for s in every]
    assert len(set(keys)) == len(keys), "a key belongs to one scenario"


@pytest.mark.parametrize("seed", [0, 7, 123])
def test_the_first_round_has_every_kind(seed: int) -> None:
    assert {scenario(seed, number).kind for number in range(len(Kind))} == set(Kind)
    assert [s.kind for s in scenarios(seed, 0, 100)][:3] == [Kind.BRUTE_FORCE, Kind.INJECTION, Kind.FRAUD]
