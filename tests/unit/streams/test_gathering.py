"""How long a reader gathers records where few come at a time: as long as a few passes of the engine, within bounds."""

from __future__ import annotations

import threading

import pytest
from tests.unit.streams.memory_broker import MemoryBroker, MemorySource

from thalweg.streams.connector import JobSettings
from thalweg.streams.engine.prefetch import LEAST_GATHER, MOST_GATHER, PASSES, Prefetcher


@pytest.mark.parametrize(
    ("seconds", "gather"),
    [(0.0, LEAST_GATHER), (0.0001, LEAST_GATHER), (0.002, PASSES * 0.002), (0.1, MOST_GATHER)],
)
def test_gathers_as_long_as_a_few_passes_take(seconds: float, gather: float) -> None:
    source = MemorySource(MemoryBroker(), "numbers", JobSettings("job"), False)
    reader = Prefetcher(source, threading.Event(), max_rows=10, capacity=10)
    assert reader.gather == LEAST_GATHER
    for _ in range(200):
        reader.passed(seconds)
    assert reader.gather == pytest.approx(gather, rel=0.01)
    reader.passed(seconds + 0.005)  # one that closes a window, say, hardly counts
    assert reader.gather <= min(MOST_GATHER, gather + 0.001)
