"""Each setting of `CheckpointConfig` does what it says, on a clock of its own."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.unit.streams.memory_broker import MemoryBroker

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.streams import App, CheckpointConfig, ValueState
from thalweg.streams.engine.checkpointing import FLOOR, Checkpointing
from thalweg.streams.engine.commits import CommitFigures


def starts(config: CheckpointConfig, seconds: range, takes: float = 0.5, delta: int = 100) -> list[int]:
    """The seconds at which checkpoints start, with a commit due every second that writes `delta` bytes."""
    figures, plan, found = CommitFigures(), Checkpointing(config, 0.0, recovered_bytes=0, forced=False), []
    for now in seconds:
        if plan.due(now, figures):
            plan.started(now)
            found.append(now)
            plan.ended(now + takes)
            figures.checkpoints += 1
            figures.full_bytes, figures.delta_bytes = 1000, 0
        else:
            figures.delta_bytes += delta
    return found


def test_interval_is_from_start_to_start():
    assert starts(CheckpointConfig(interval="10s"), range(1, 45)) == [10, 20, 30, 40]
    assert starts(CheckpointConfig(interval="10s"), range(1, 45), takes=9.0) == [10, 20, 30, 40]


def test_min_pause_is_from_end_to_start():
    config = CheckpointConfig(interval="10s", min_pause_between_checkpoints="8s")
    assert starts(config, range(1, 45)) == [10, 20, 30, 40]
    assert starts(config, range(1, 60), takes=5.0) == [10, 23, 36, 49]


def test_nothing_new_needs_no_checkpoint():
    assert starts(CheckpointConfig(interval="10s"), range(1, 45), delta=0) == []


def test_without_checkpoints_only_deltas_that_outgrow_the_state_bring_one():
    assert starts(CheckpointConfig(enabled=False, interval="10s"), range(1, 200)) == []
    figures = CommitFigures(checkpoints=1, full_bytes=1000, delta_bytes=FLOOR + 1)
    assert Checkpointing(CheckpointConfig(enabled=False), 0.0, recovered_bytes=0, forced=False).due(1.0, figures)
    figures.delta_bytes = FLOOR - 1
    assert not Checkpointing(CheckpointConfig(enabled=False), 0.0, recovered_bytes=0, forced=False).due(1.0, figures)


def test_progress_size_and_duration_are_told():
    plan = Checkpointing(CheckpointConfig(interval="10s", min_pause_between_checkpoints="4s"), 0.0, recovered_bytes=0,
                         forced=True)  # fmt: skip
    figures = CommitFigures(to_encode=4, encoded=1)
    plan.started(100.0)
    status = plan.status(101.5, figures)
    assert (status.under_way_ms, status.progress, status.count) == (1500.0, 0.25, 0)
    plan.ended(103.0)
    figures.checkpoints, figures.full_bytes = 1, 777
    status = plan.status(105.0, figures)
    assert (status.under_way_ms, status.progress, status.last_ms, status.last_bytes) == (None, None, 3000.0, 777)
    assert status.next_in_ms == 5000.0
    assert plan.status(120.0, figures).next_in_ms == 0.0
    assert Checkpointing(CheckpointConfig(enabled=False), 0.0, recovered_bytes=0, forced=False).status(
        1.0, figures
    ).next_in_ms is None  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_checkpoints_are_under_way_than_may_be(most: int):
    """In the background a checkpoint may take longer than the interval."""
    config = CheckpointConfig(interval="10s", max_concurrent_checkpoints=most)
    plan, figures = Checkpointing(config, 0.0, recovered_bytes=0, forced=False), CommitFigures(delta_bytes=100)
    began: list[float] = []
    for now in range(1, 100):
        if plan.due(now, figures):
            plan.started(now)
            began.append(now)
    assert began == [10.0 * (n + 1) for n in range(most)]
    plan.ended(100.0, began[-1])
    assert plan.last_ms == (100 - began[-1]) * 1000
    assert plan.due(101.0, figures)
    plan.started(101.0)
    plan.abandoned(102.0, began[0] if most > 1 else 101.0)
    assert plan.due(120.0, figures)


def test_with_a_pause_nothing_starts_beside_another():
    config = CheckpointConfig(interval="10s", min_pause_between_checkpoints="1s", max_concurrent_checkpoints=3)
    plan, figures = Checkpointing(config, 0.0, recovered_bytes=0, forced=False), CommitFigures(delta_bytes=100)
    plan.started(10.0)
    assert not plan.due(30.0, figures)
    plan.abandoned(30.0, 10.0)
    assert not plan.due(30.9, figures)
    assert plan.due(31.0, figures)


def test_there_is_at_least_one():
    with pytest.raises(ConfigurationError, match="at least 1"):
        CheckpointConfig(max_concurrent_checkpoints=0)


def counting(app: App) -> None:
    def count(event: Any, ctx: Any) -> None:
        ctx["n"].set(ctx["n"].get() + 1)

    app.stream("in", timestamp="t").key_by("k").process(count, state={"n": ValueState(int, default=0)}).to("out")


def test_a_checkpoint_that_takes_longer_than_its_timeout_fails_the_job():
    broker = MemoryBroker()
    broker.fail = lambda step, commit: time.sleep(0.5)
    broker.put("in", [{"t": 1, "k": "a"}])
    app = App("job", broker=broker, checkpoint=CheckpointConfig(timeout=200), commit_interval=1)
    counting(app)
    with pytest.raises(ConnectorError, match="not durable after 200 ms"):
        app.run(seconds=120)
