"""A broker in memory: topics are lists of records, commits are atomic, and a script may let any step of it fail.

It keeps what it is given exactly as the embedded log and Kafka must: an epoch takes effect as a whole; recovery gives
back what is committed; a new committer of a job fences off the one before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConnectorError, FencedError, RestartRequired
from thalweg.records import Decoder, RawRecords
from thalweg.streams.connector import (
    Commit,
    JobSettings,
    PartitionEpoch,
    Recovered,
    SinkWrite,
    Source,
    SourceBatch,
    StateRecord,
    TopicPartition,
)
from thalweg.streams.engine.dead_letters import dead_letters


@dataclass
class Job:
    """What is committed for one job."""

    epochs: dict[TopicPartition, PartitionEpoch] = field(default_factory=dict)
    states: list[StateRecord] = field(default_factory=list)
    generation: int = 0
    commits: list[Commit] = field(default_factory=list)


class MemoryBroker:
    """Topics of rows; `fail(step, …)` is called at each step of each commit and may raise."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self.clock = clock
        self.topics: dict[str, list[list[dict[str, Any] | bytes | None]]] = {}
        self.written: dict[str, list[SinkWrite]] = {}
        self.jobs: dict[str, Job] = {}
        self.fail: Callable[[str, Commit], None] = lambda step, commit: None
        self.poll_fail: Callable[[], None] = lambda: None
        self.batch_rows: int | None = None
        self.lockstep = False
        """A source gives the next batch only when the one before is committed: as many commits as batches."""
        self.open_sources = 0
        self.open_committers = 0
        self.closed = False
        self.changed = threading.Condition()

    def put(
        self, topic: str, rows: Iterable[dict[str, Any] | bytes | None], partition: int = 0, partitions: int = 1
    ) -> None:
        """Appends records: dicts (what a decoder would give), or bytes, which count as undecodable."""
        with self.changed:
            parts = self.topics.setdefault(topic, [[] for _ in range(partitions)])
            parts[partition].extend(rows)
            self.changed.notify_all()

    def output(self, topic: str) -> pl.DataFrame:
        """All committed rows of a topic."""
        writes = self.written.get(topic, [])
        return pl.concat([w.frame for w in writes], how="diagonal_relaxed") if writes else pl.DataFrame()

    def source(self, topic: str, decoder: Decoder, job: JobSettings, *, broker_timestamps: bool = False) -> Source:
        return MemorySource(self, topic, job, broker_timestamps)

    def committer(self, job: JobSettings, sources: Sequence[Source]) -> MemoryCommitter:
        return MemoryCommitter(self, job)

    def ensure_topic(self, topic: str, partitions: int | None = None) -> int:
        self.written.setdefault(topic, [])
        return partitions or 1

    def partitions(self, topic: str) -> int:
        if topic not in self.topics:
            raise ConnectorError(f"no topic {topic!r}")
        return len(self.topics[topic])

    def close(self) -> None:
        self.closed = True


class MemorySource:
    """Reads a topic of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, topic: str, job: JobSettings, broker_timestamps: bool) -> None:
        self.topic = topic
        self.positions: dict[int, int] = {}
        self._broker = broker
        self._job = job
        self._stamps = broker_timestamps
        self._woken = False

    def open(self) -> Sequence[int]:
        count = self._broker.partitions(self.topic)
        self._broker.open_sources += 1
        ends = [len(part) for part in self._broker.topics[self.topic]]
        self.positions = {p: 0 if self._job.start == "earliest" else ends[p] for p in range(count)}
        return list(range(count))

    def seek(self, positions: Mapping[int, int]) -> None:
        self.positions.update(positions)

    def poll(self, max_rows: int, timeout_ms: int) -> SourceBatch | None:
        self._broker.poll_fail()
        with self._broker.changed:
            if self._broker.lockstep and self._has_uncommitted():
                self._broker.changed.wait(0.01)
                return None
            if self.caught_up() == frozenset(self.positions) and not self._woken:
                self._broker.changed.wait(timeout_ms / 1000)
            limit = min(max_rows, self._broker.batch_rows or max_rows)
            taken: list[tuple[int, int, Any]] = []
            moved: dict[int, int] = {}
            for partition, part in enumerate(self._broker.topics[self.topic]):
                start = self.positions[partition]
                chunk = part[start : start + limit - len(taken)]
                taken += [(partition, start + i, row) for i, row in enumerate(chunk)]
                if chunk:
                    moved[partition] = self.positions[partition] = start + len(chunk)
            return self._batch(taken, moved) if taken else None

    def _has_uncommitted(self) -> bool:
        epochs = self._broker.jobs[self._job.name].epochs
        committed = {p: epochs[self.topic, p].position for p in self.positions if (self.topic, p) in epochs}
        return any(position > committed.get(p, 0) for p, position in self.positions.items())

    def _batch(self, taken: list[tuple[int, int, Any]], moved: dict[int, int]) -> SourceBatch:
        good = [(p, o, row) for p, o, row in taken if isinstance(row, dict)]
        bad = [(p, o, row) for p, o, row in taken if not isinstance(row, dict)]
        frame = self._frame([row for *_, row in good], [p for p, *_ in good], [o for _, o, _ in good])
        dead = None
        if bad:
            rows = self._frame([{"payload": row} for *_, row in bad], [p for p, *_ in bad], [o for _, o, _ in bad])
            dead = dead_letters(
                rows, [(i, "MalformedJson", "bad", {}) for i in range(len(bad))], "source", [self.topic]
            )
        return SourceBatch(frame, dead, moved, len(taken))

    def _frame(self, rows: list[dict[str, Any]], partitions: list[int], offsets: list[int]) -> pl.DataFrame:
        now = self._broker.clock()
        frame = pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()
        reserved = {
            "__partition": pl.Series(partitions, dtype=pl.Int32),
            "__offset": pl.Series(offsets, dtype=pl.Int64),
            "__ingested": pl.Series([now] * len(rows), dtype=pl.Int64),
        }
        if self._stamps and "__ts" not in frame.columns:
            reserved["__ts"] = pl.Series([now] * len(rows), dtype=pl.Int64)
        return frame.with_columns(**reserved) if rows else pl.DataFrame(reserved)

    def caught_up(self) -> frozenset[int]:
        parts = self._broker.topics[self.topic]
        return frozenset(p for p, position in self.positions.items() if position == len(parts[p]))

    def lag(self) -> Mapping[int, int]:
        parts = self._broker.topics[self.topic]
        return {p: len(parts[p]) - position for p, position in self.positions.items()}

    def wake(self) -> None:
        with self._broker.changed:
            self._woken = True
            self._broker.changed.notify_all()

    def close(self) -> None:
        self._broker.open_sources -= 1


class MemoryCommitter:
    """Commits to a `MemoryBroker`: all of an epoch, or nothing."""

    def __init__(self, broker: MemoryBroker, job: JobSettings) -> None:
        self._broker = broker
        self._state = broker.jobs.setdefault(job.name, Job())
        self._generation = 0
        broker.open_committers += 1

    def recover(self, partitions: Iterable[TopicPartition]) -> Recovered:
        self._state.generation += 1
        self._generation = self._state.generation
        wanted = set(partitions)
        epochs = {tp: e for tp, e in self._state.epochs.items() if tp in wanted}
        return Recovered(epochs, list(self._state.states))

    def send(self, write: SinkWrite) -> None:
        self._broker.written.setdefault(write.topic, []).append(write)

    def commit(self, commit: Commit) -> None:
        self._broker.fail("before", commit)
        if self._generation != self._state.generation:
            raise FencedError("another instance took over")
        states = list(self._state.states)
        for record in commit.states:
            if record.full:
                places = (record.operator_id, record.state_partition)
                states = [s for s in states if (s.operator_id, s.state_partition) != places]
            states.append(record)
        for tp, epoch in commit.epochs.items():
            before = self._state.epochs.get(tp)
            assert epoch.epoch == (before.epoch + 1 if before else 1), f"{tp}: epoch {epoch} after {before}"
        self._broker.fail("prepared", commit)
        self._state.states = states
        self._state.epochs.update(commit.epochs)
        self._state.commits.append(commit)
        with self._broker.changed:
            self._broker.changed.notify_all()
        for write in commit.writes:
            self._broker.written.setdefault(write.topic, []).append(write)
        self._broker.fail("after", commit)

    def close(self) -> None:
        self._broker.open_committers -= 1


class Aborted(RestartRequired):
    """The scripted failure after which the job goes on from its last commit."""


def no_records(topic: str) -> RawRecords:
    """An empty poll in wire form."""
    none = np.empty(0, dtype=np.int64)
    return RawRecords(
        topic, none.astype(np.uint64), none, none.astype(np.uint64), none, none.astype(np.int32), none, none
    )
