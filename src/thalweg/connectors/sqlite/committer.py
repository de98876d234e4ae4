"""Outputs, offsets and state of one job in the embedded log: one SQL transaction per commit."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence

from thalweg.connectors.sqlite.outputs import SqliteOutputs
from thalweg.connectors.sqlite.topics import Prepared, Topics
from thalweg.errors import FencedError, StateError
from thalweg.faults import fault_point
from thalweg.streams.connector import (
    Commit,
    JobSettings,
    PartitionEpoch,
    Recovered,
    SinkWrite,
    StateRecord,
    TopicPartition,
)

MAX_PART = 64 * 1024 * 1024
"""Bytes of state per row; SQLite's own bound is a gigabyte."""


class SqliteCommitter:
    """`Committer` over the embedded log.

    Exactly-once: outputs, offsets and state of an epoch take effect in one SQL transaction. At-least-once: outputs
    are appended by `send`, each in a transaction of its own, before the commit that names their offsets and state.
    """

    def __init__(self, topics: Topics, job: JobSettings) -> None:
        self._topics = topics
        self._job = job
        self._outputs = SqliteOutputs(topics, job.name)
        self._generation = 0
        self._clock = job.clock or (lambda: time.time_ns() // 1_000_000)

    # -- recovery

    def recover(self, partitions: Iterable[TopicPartition]) -> Recovered:
        wanted = set(partitions)
        with self._topics.database.write() as connection:
            self._take_over(connection)
            states = list(self._states(connection))
            epochs = {
                (topic, partition): PartitionEpoch(epoch, position, max_timestamp)
                for topic, partition, epoch, position, max_timestamp in connection.execute(
                    "SELECT topic, partition, epoch, position, max_timestamp FROM log_offsets WHERE job = ?",
                    (self._job.name,),
                )
                if (topic, partition) in wanted
            }
        if states and not epochs:
            raise StateError(f"job {self._job.name!r} has state in {self._topics.database.path}, but no offsets for it")
        return Recovered(epochs, states)

    def _take_over(self, connection: sqlite3.Connection) -> None:
        """Counts the generation up, which fences off any instance that is still running."""
        name, count = self._job.name, self._job.state_partitions
        generation, state_partitions = connection.execute(
            "INSERT INTO log_jobs(job, slot, generation, state_partitions) VALUES (?, ?, 1, ?) "
            "ON CONFLICT(job, slot) DO UPDATE SET generation = generation + 1 RETURNING generation, state_partitions",
            (name, self._job.slot, count),
        ).fetchone()
        if state_partitions != count:
            raise StateError(
                f"job {name!r} keeps its state in {state_partitions} partitions, now {count} are wanted; "
                "give the job another name to start anew"
            )
        self._generation = generation

    def _states(self, connection: sqlite3.Connection) -> Iterator[StateRecord]:
        """Every record that the heads name, in the order of commit."""
        heads = {
            (state_partition, operator): [records, parts]
            for state_partition, operator, records, parts in connection.execute(
                "SELECT state_partition, operator, records, parts FROM log_state_heads WHERE job = ?", (self._job.name,)
            )
        }
        held: dict[tuple[int, str], list[int]] = {head: [0, 0] for head in heads}
        found: dict[tuple[int, str, int], tuple[list[bytes], bool]] = {}
        for state_partition, operator, sequence, part, full, checksum, payload in connection.execute(
            "SELECT state_partition, operator, sequence, part, is_full, checksum, payload FROM log_states "
            "WHERE job = ? ORDER BY id",
            (self._job.name,),
        ):
            head = (state_partition, operator)
            if zlib.crc32(payload) != checksum or head not in held:
                raise self._broken(operator, f"record {sequence} of state partition {state_partition} is damaged")
            pieces, _ = found.setdefault((*head, sequence), ([], bool(full)))
            if len(pieces) != part or sequence != held[head][0] - (part > 0):
                raise self._broken(operator, f"an epoch before record {sequence} is missing")
            pieces.append(payload)
            held[head][0] += part == 0
            held[head][1] += 1
        for head, named in heads.items():
            if held[head] != named:
                raise self._broken(head[1], f"{named[0]} epochs were committed, {held[head][0]} are there")
        for (state_partition, operator, _), (pieces, full) in found.items():
            yield StateRecord(state_partition, operator, b"".join(pieces), full)

    def _broken(self, operator: str, what: str) -> StateError:
        return StateError(
            f"state of operator {operator!r}, job {self._job.name!r}, in {self._topics.database.path}: {what}. "
            "Restore a copy of the file, or give the job another name to start anew."
        )

    # -- commits

    def send(self, write: SinkWrite) -> None:
        prepared = self._prepare([write])
        with self._topics.database.write() as connection:
            self._check_generation(connection)
            self._topics.append(connection, prepared, self._clock())

    def commit(self, commit: Commit) -> None:
        # All that can be done beforehand is, so that the write lock is held only for the inserts.
        prepared = self._prepare(commit.writes)
        now = self._clock()
        with self._topics.database.write() as connection:
            self._check_generation(connection)
            fault_point("sqlite.begun")
            self._topics.append(connection, prepared, now)
            fault_point("sqlite.outputs-written")
            for state in commit.states:
                self._put_state(connection, state)
            fault_point("sqlite.state-written")
            for place, epoch in commit.epochs.items():
                self._put_epoch(connection, place, epoch)
            fault_point("sqlite.offsets-written")
            connection.execute(
                "UPDATE log_jobs SET commits = commits + 1, committed = ? WHERE job = ? AND slot = ?",
                (now, self._job.name, self._job.slot),
            )
        fault_point("sqlite.committed")

    def _prepare(self, writes: Sequence[SinkWrite]) -> list[Prepared]:
        return [prepared for write in writes for prepared in self._outputs.prepare(write)]

    def _check_generation(self, connection: sqlite3.Connection) -> None:
        (current,) = connection.execute(
            "SELECT generation FROM log_jobs WHERE job = ? AND slot = ?", (self._job.name, self._job.slot)
        ).fetchone() or (0,)
        if current != self._generation:
            raise FencedError(
                f"another instance of job {self._job.name!r} has taken over in {self._topics.database.path} "
                f"(generation {current}, this one is {self._generation}); this one stops"
            )

    def _put_state(self, connection: sqlite3.Connection, state: StateRecord) -> None:
        place = (self._job.name, state.state_partition, state.operator_id)
        if state.full:
            connection.execute("DELETE FROM log_states WHERE job = ? AND state_partition = ? AND operator = ?", place)
        (records,) = connection.execute(
            "SELECT records FROM log_state_heads WHERE job = ? AND state_partition = ? AND operator = ?", place
        ).fetchone() or (0,)
        sequence = 0 if state.full else records
        pieces = [state.payload[i : i + MAX_PART] for i in range(0, len(state.payload), MAX_PART)] or [b""]
        connection.executemany(
            "INSERT INTO log_states(job, state_partition, operator, sequence, part, is_full, checksum, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(*place, sequence, part, state.full, zlib.crc32(piece), piece) for part, piece in enumerate(pieces)],
        )
        connection.execute(
            "INSERT INTO log_state_heads VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET records = ?, "
            "parts = iif(?, 0, parts) + ?",
            (*place, len(pieces), sequence + 1, state.full, len(pieces)),
        )

    def _put_epoch(self, connection: sqlite3.Connection, place: TopicPartition, epoch: PartitionEpoch) -> None:
        row = (self._job.name, *place)
        (last,) = connection.execute(
            "SELECT epoch FROM log_offsets WHERE job = ? AND topic = ? AND partition = ?", row
        ).fetchone() or (0,)
        if epoch.epoch not in (last, last + 1):
            raise StateError(
                f"job {self._job.name!r}, topic {place[0]!r}, partition {place[1]}: epoch {epoch.epoch} after {last}; "
                "an epoch is missing, nothing of this commit took effect"
            )
        connection.execute(
            "INSERT INTO log_offsets VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "epoch = excluded.epoch, position = excluded.position, max_timestamp = excluded.max_timestamp",
            (*row, epoch.epoch, epoch.position, epoch.max_timestamp),
        )

    def close(self) -> None:
        self._topics.database.close()
