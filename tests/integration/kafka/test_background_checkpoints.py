"""Checkpoints on Kafka are written beside the commits: these go on meanwhile, and a restart builds on what is whole."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from tests.integration.kafka.commit_tools import read
from thalweg import App, col
from thalweg.connectors.kafka_snapshots import SnapshotWriter
from thalweg.errors import ConnectorError
from thalweg.streams import CheckpointConfig

pytestmark = pytest.mark.kafka


def job(kafka: Any, topic: str, output: str, checkpoint: CheckpointConfig, storage: str | None = None) -> App:
    app = App(
        f"job-{topic}",
        broker=f"kafka://{kafka.bootstrap}",
        checkpoint=checkpoint,
        commit_interval=20,
        checkpoint_storage=storage,
    )
    readings = app.stream(topic, schema={"key": str, "n": int}).key_by("key")
    readings.aggregate(total=col("n").sum(), count=col("n").count()).uid("totals").to(output, changes=True)
    return app


def feed(kafka: Any, topic: str, numbers: Sequence[int]) -> None:
    producer = ck.Producer({"bootstrap.servers": kafka.bootstrap})
    for number in numbers:
        producer.produce(topic, json.dumps({"key": f"k{number % 50}", "n": number}), f"k{number % 50}")
    assert producer.flush(30) == 0


@contextmanager
def running(app: App) -> Iterator[None]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            app.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        app.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert not failures, failures


def totals(kafka: Any, output: str) -> dict[str, tuple[int, int]]:
    """The last count and sum of each key."""
    rows = [json.loads(record.value()) for record in read(kafka.bootstrap, output) if record.value()]
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        found[row["key"]] = max(found.get(row["key"], (0, 0)), (row["count"], row["total"]))
    return found


def expected(numbers: Sequence[int]) -> dict[str, tuple[int, int]]:
    keys = {f"k{k}": [n for n in numbers if n % 50 == k] for k in range(50)}
    return {key: (len(parts), sum(parts)) for key, parts in keys.items() if parts}


@pytest.mark.parametrize("stored", [False, True], ids=["changelog", "folder"])
def test_a_restart_builds_on_a_checkpoint_that_was_written_beside_the_commits(
    kafka: Any, topic: str, new_topic: Callable[..., str], tmp_path: Path, stored: bool
) -> None:
    output, storage = new_topic(), (tmp_path / "shared").as_uri() if stored else None
    app = job(kafka, topic, output, CheckpointConfig(interval=100), storage)
    numbers = list(range(1_000))
    with running(app):
        feed(kafka, topic, numbers)
        # The first is a commit that holds all state; two more come beside, and later commits build on them.
        while app.status().checkpoint.count < 4:
            feed(kafka, topic, more := list(range(len(numbers), len(numbers) + 50)))
            numbers += more
            time.sleep(0.02)
    status = app.status().checkpoint
    assert status.last_bytes > 0
    assert status.abandoned == 0
    if not stored:
        keys = [json.loads(record.key()) for record in read(kafka.bootstrap, f"job-{topic}-changelog")]
        assert any(key.get("k") for key in keys), "no snapshot"
        assert any(key.get("z") for key in keys), "no epoch builds on one"
    again = job(kafka, topic, output, CheckpointConfig(interval=100), storage)
    feed(kafka, topic, more := list(range(len(numbers), len(numbers) + 100)))
    numbers += more
    again.run(until_caught_up=True)
    assert totals(kafka, output) == expected(numbers)


def test_a_checkpoint_that_takes_too_long_is_abandoned_and_the_job_goes_on(
    kafka: Any, topic: str, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, slow, most = new_topic(), threading.Event(), [0]
    real, under_way = SnapshotWriter.write, []

    def held_up(self: SnapshotWriter, *given: Any) -> None:
        under_way.append(time.monotonic())
        if under_way[-1] - under_way[0] < 1.5:  # before the first is abandoned, and another may take its place
            most[0] = max(most[0], len(under_way))
        slow.wait(60)
        under_way.pop()
        real(self, *given)

    monkeypatch.setattr(SnapshotWriter, "write", held_up)
    config = CheckpointConfig(interval=50, timeout="2s", max_concurrent_checkpoints=2)
    app = job(kafka, topic, output, config)
    numbers: list[int] = []

    def more() -> None:
        feed(kafka, topic, new := list(range(len(numbers), len(numbers) + 50)))
        numbers.extend(new)

    with running(app):
        while app.status().checkpoint.abandoned < 2:
            more()
            time.sleep(0.02)
        assert most[0] <= 2 <= len(under_way), "as many at a time as may be"
        assert app.status().checkpoint.count == 1  # the first, which is a commit
        slow.set()
        while app.status().checkpoint.count < 2:
            more()
            time.sleep(0.02)
    assert app.status().restarts == 0
    job(kafka, topic, output, config).run(until_caught_up=True)
    assert totals(kafka, output) == expected(numbers)


def test_a_checkpoint_that_fails_leaves_the_job_as_it_is(
    kafka: Any, topic: str, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: SnapshotWriter, *given: Any) -> None:
        raise ConnectorError("no room")

    monkeypatch.setattr(SnapshotWriter, "write", refused)
    output = new_topic()
    app = job(kafka, topic, output, CheckpointConfig(interval=50))
    numbers: list[int] = []
    with running(app):
        while app.status().checkpoint.abandoned < 2:
            feed(kafka, topic, new := list(range(len(numbers), len(numbers) + 50)))
            numbers.extend(new)
            time.sleep(0.02)
    assert app.status().restarts == 0
    job(kafka, topic, output, CheckpointConfig()).run(until_caught_up=True)
    assert totals(kafka, output) == expected(numbers)
