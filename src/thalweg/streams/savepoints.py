"""Savepoints: all state and positions of a job in one file, from which it, or its next version, goes on.

A file is `TWSP`, the format version (one byte), the length of the header (4 bytes, little-endian), the header
(msgpack), then the state records that the header describes, as commits write them (see `state_codec`).
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, StateError
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.connector import PartitionEpoch, Recovered, StateRecord, TopicPartition

if TYPE_CHECKING:
    from thalweg.streams.engine.requests import Boundary, Requests

MAGIC = b"TWSP"
VERSION = 1


class OperatorInfo(msgspec.Struct, frozen=True):
    """A step that has state in a savepoint."""

    id: str
    signature: dict[str, Any]
    """What its state depends on (see `Node.signature`)."""
    bytes: int = 0


class _Position(msgspec.Struct):
    topic: str
    partition: int
    position: int
    max_timestamp: int


class _Record(msgspec.Struct):
    operator: str
    partition: int
    length: int
    checksum: int


class _Header(msgspec.Struct, kw_only=True):
    job: str
    created: int
    program: str
    operators: list[OperatorInfo]
    positions: list[_Position]
    records: list[_Record]
    exchanged: bool = False


@dataclass(frozen=True)
class Savepoint:
    """What a savepoint holds."""

    job: str
    created: int
    """ms UTC."""
    program: str
    """The version of Thalweg that wrote it."""
    operators: Sequence[OperatorInfo]
    epochs: dict[TopicPartition, PartitionEpoch]
    records: Sequence[StateRecord]
    exchanged: bool = False
    """The state is laid out for an exchange between workers. Nothing was under way in it."""

    @classmethod
    def of(cls, boundary: Boundary, job: str) -> Savepoint:
        """The job as it is at a commit that writes all state."""
        from thalweg import __version__
        from thalweg.streams.engine.state_codec import encode_placed

        if not boundary.alone:
            raise StateError(
                f"job {job!r} runs on several workers, of which each holds a part of the state: end all of them, then "
                "write the savepoint"
            )
        signatures = {stage.operator.id: stage.signature for stage in boundary.dataflow.stages if stage.stateful}
        records: list[StateRecord] = []
        sizes: dict[str, int] = {}
        for placed in boundary.deltas:
            if placed.operator_id not in signatures:
                continue  # the commit voids the state of a step that is gone
            own = encode_placed(placed, boundary.state_partitions, groups=boundary.key_groups)
            size = sum(len(record.payload) for record in own)
            sizes[placed.operator_id] = sizes.get(placed.operator_id, 0) + size
            records += own
        operators = [OperatorInfo(name, dict(signatures[name]), size) for name, size in sizes.items()]
        epochs = {place: epoch for place, epoch in boundary.epochs.items() if place[0] != boundary.exchange}
        exchanged = boundary.exchange is not None
        return cls(job, time.time_ns() // 1_000_000, __version__, operators, epochs, records, exchanged)

    def write(self, path: str | Path) -> None:
        """Writes the file, which appears as a whole or not at all.

        Raises:
            StateError: it can't be written.
        """
        header = _Header(
            job=self.job,
            created=self.created,
            program=self.program,
            operators=list(self.operators),
            positions=[_Position(t, p, e.position, e.max_timestamp) for (t, p), e in sorted(self.epochs.items())],
            records=[
                _Record(r.operator_id, r.state_partition, len(r.payload), zlib.crc32(r.payload)) for r in self.records
            ],
            exchanged=self.exchanged,
        )
        packed = msgspec.msgpack.encode(header)
        target = Path(path)
        partial = target.with_name(target.name + ".partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.writelines([MAGIC, bytes([VERSION]), len(packed).to_bytes(4, "little"), packed])
                file.writelines(record.payload for record in self.records)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        except OSError as error:
            raise StateError(f"can't write the savepoint {target}: {error}") from error

    @classmethod
    def read(cls, path: str | Path) -> Savepoint:
        """Reads a file, and checks that it is whole.

        Raises:
            StateError: not there, not a savepoint, of another version, or damaged.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise StateError(f"can't read the savepoint {path}: {error}") from error
        if content[:4] != MAGIC or len(content) < 9:
            raise StateError(f"{path} is not a savepoint")
        if content[4] != VERSION:
            raise StateError(f"savepoint {path}: format version {content[4]}; this version of Thalweg reads {VERSION}")
        start = 9 + int.from_bytes(content[5:9], "little")
        try:
            header = msgspec.msgpack.decode(content[9:start], type=_Header)
        except msgspec.DecodeError as error:
            raise StateError(f"savepoint {path} is damaged: {error}") from error
        records = []
        for record in header.records:
            payload = content[start : start + record.length]
            start += record.length
            if len(payload) != record.length or zlib.crc32(payload) != record.checksum:
                raise StateError(
                    f"savepoint {path} is damaged: the state of {record.operator!r} is not what was written"
                )
            records.append(StateRecord(record.partition, record.operator, payload, full=True))
        epochs = {(p.topic, p.partition): PartitionEpoch(0, p.position, p.max_timestamp) for p in header.positions}
        return cls(header.job, header.created, header.program, header.operators, epochs, records, header.exchanged)

    def over(self, committed: Recovered, ends: Mapping[TopicPartition, int]) -> Recovered:
        """What a job goes on from: state and positions of the savepoint, epochs that follow the committed ones.

        Args:
            ends: where the job's exchange ends now; what is in it is passed over.
        """
        epochs = {
            place: PartitionEpoch(before.epoch, 0, MIN_TIME)  # came after the savepoint: read from its start
            for place, before in committed.epochs.items()
        }
        for place, saved in self.epochs.items():
            before = committed.epochs.get(place)
            epochs[place] = PartitionEpoch(before.epoch if before else 0, saved.position, saved.max_timestamp)
        for place, end in ends.items():
            before = committed.epochs.get(place)
            epochs[place] = PartitionEpoch(before.epoch if before else 0, end, MIN_TIME)
        return Recovered(epochs, self.records)


class Savepoints:
    """Mixin of `App`: `savepoint`."""

    if TYPE_CHECKING:
        name: str
        _requests: Requests
        _running: bool

        def _run(self, *, seconds: float, savepoint: Savepoint | None = None, state_only: bool) -> None: ...

    def savepoint(self, path: str | Path, *, timeout: Duration = "2m") -> Savepoint:
        """Writes all state and positions to a file; `run(from_savepoint=path)` goes on from it.

        While the job runs (from any thread) it takes the next commit, which becomes a checkpoint. Otherwise the job is
        started for that one commit; nothing is read. An instance that runs elsewhere is fenced off by that. A job on
        several workers has to be stopped: this one takes over what all of them have committed, and takes in the rows
        that are under way between them.

        Args:
            path: the file; one that is there is replaced.
            timeout: how long it may take.

        Raises:
            StateError: it took too long, other workers run, the file can't be written, or the job has nothing
                committed yet.
        """
        seconds = milliseconds(timeout, name="timeout", minimum=1) / 1000
        if self._running:
            boundary = self._requests.ask(_as_it_is, whole=True, timeout=seconds)
        else:
            boundary = self._state_only(seconds)
        saved = Savepoint.of(boundary, self.name)
        if not saved.epochs:
            raise StateError(f"job {self.name!r} has read nothing yet: there is nothing to save")
        saved.write(path)
        return saved

    def restore(self, savepoint: str | Path | Savepoint, *, timeout: Duration = "2m") -> None:
        """Makes a savepoint the job's last commit; nothing is read. The job, which must be stopped, goes on from it.

        Unlike `run(from_savepoint=…)` this serves a job that goes on with several workers.

        Raises:
            StateError: other workers run, the savepoint does not fit the program, or it took too long.
        """
        if self._running:
            raise ConfigurationError(f"app {self.name!r} is running: stop it, then restore the savepoint")
        self._state_only(milliseconds(timeout, name="timeout", minimum=1) / 1000, opened(savepoint))

    def _state_only(self, seconds: float, savepoint: Savepoint | None = None) -> Boundary:
        """The job for one commit that writes all state."""
        future = self._requests.put(_as_it_is, whole=True)
        self._run(seconds=seconds, savepoint=savepoint, state_only=True)
        boundary: Boundary = future.result(0)
        return boundary


def _as_it_is(boundary: Boundary) -> Boundary:
    return boundary


def opened(savepoint: str | Path | Savepoint | None) -> Savepoint | None:
    """A savepoint by its path, or as it is."""
    if savepoint is None or isinstance(savepoint, Savepoint):
        return savepoint
    if not isinstance(savepoint, str | Path):
        raise ConfigurationError(f"from_savepoint is {savepoint!r}; give the path of a savepoint")
    return Savepoint.read(savepoint)
