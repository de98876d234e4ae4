"""kill -9 of the Kafka → window → Kafka job at random moments: the output is that of an undisturbed run."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.reliability import crash

KILLS_IN_SHORT = 4


def check(bootstrap: str, name: str, kills: int) -> None:
    outcome = crash.run_with_kills(bootstrap, name, kills)
    results, late = crash.expected(crash.readings(20_000 * (kills * 4 + 5), 20_000))
    assert_frame_equal(outcome.results, results, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)
    assert outcome.late == late > 0
    undisturbed = crash.Job(bootstrap, f"{name}-in", f"{name}-calm")
    crash.create_topics(bootstrap, f"{name}-calm")
    undisturbed.finish()
    assert_frame_equal(
        outcome.results, crash.results_of(bootstrap, f"{name}-calm"), check_exact=False, rel_tol=1e-9, abs_tol=1e-12
    )
    assert_frame_equal(outcome.results.select(pl.exclude("average")), results.select(pl.exclude("average")))


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_a_few_kills_change_nothing(kafka, topic):
    check(kafka.bootstrap, topic, KILLS_IN_SHORT)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_kills_change_nothing(kafka, topic):
    check(kafka.bootstrap, topic, 20)
