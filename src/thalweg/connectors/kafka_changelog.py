"""The state changelog: how epochs of state are named, cut into records, and put together again. No broker in here.

Every state partition has one partition of the topic `<job>-changelog`. A commit that changes a state partition appends
one *epoch* to it: all its state records, cut into chunks. An epoch is named by its writer (new at each recovery) and a
number, one more than its parent's. What is valid is not what lies in the topic but what the committed offsets name:
recovery walks from the named epoch to its parents. Epochs of a writer that died before its offsets were committed are
in nobody's ancestry and are passed over; a parent that is missing is an error.

A *snapshot* is all state as of an epoch, written beside the epochs in its own time. It has the epoch's name and counts
once an epoch is named that builds on it: recovery then stops at the snapshot, as if it were that epoch.

A chunk's place is its record key (compact JSON, so that Kafka's own tools show it); the value holds nothing but bytes::

    {"f":1,"w":"9f…","e":12,"p":"9f…","b":7,"i":0,"n":3,"s":0,"o":"window-1","x":1}

    f format (2: a snapshot, or built on one)   w writer   e epoch
    p the parent's writer (its epoch is e - 1; null: no parent)
    b oldest epoch needed to restore this one   i, n chunk i of n in the epoch
    s which state record of the epoch this is a piece of   o operator id   x 1: supersedes all before it
    k 1: a chunk of a snapshot   z 1: of epoch b the snapshot is needed
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from thalweg.errors import StateError
from thalweg.streams.connector import StateRecord

FORMAT = 1
SNAPSHOT_FORMAT = 2
"""Of snapshots and of epochs that build on one, which earlier versions must not read as if there were none."""
CHUNK = 900_000
"""Bytes per changelog record: with its key below the 1 MB that a broker takes by default."""


@dataclass(frozen=True, slots=True)
class EpochName:
    """One epoch of one state partition."""

    writer: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.epoch} (writer {self.writer})"


@dataclass(frozen=True, slots=True)
class Tip:
    """The newest committed epoch of a state partition, and from which offset on its changelog must be read."""

    name: EpochName
    base_offset: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """One record of the changelog topic."""

    state_partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """Where the snapshot of one state partition belongs."""

    name: EpochName
    place: int
    """Neither the snapshot nor an epoch after the one it is of lies before this offset."""
    operators: frozenset[str] = frozenset()
    """Whose state it holds."""


def cut_epoch(
    state_partition: int,
    name: EpochName,
    parent: EpochName | None,
    base: int,
    states: Sequence[StateRecord],
    *,
    on_snapshot: bool = False,
) -> list[Chunk]:
    """Cuts one epoch of one state partition into changelog records.

    Args:
        base: the oldest epoch that is needed to restore this one.
        on_snapshot: whether of that one the snapshot is needed.
    """
    if parent is not None and parent.epoch != name.epoch - 1:
        raise ValueError(f"epoch {name} can't follow {parent}")
    head = {"w": name.writer, "e": name.epoch, "p": parent.writer if parent else None, "b": base}
    if on_snapshot:
        return _cut(state_partition, {"f": SNAPSHOT_FORMAT, "z": 1} | head, states)
    return _cut(state_partition, {"f": FORMAT} | head, states)


def cut_snapshot(state_partition: int, name: EpochName, states: Sequence[StateRecord]) -> list[Chunk]:
    """Cuts all state of one state partition, as of an epoch, into changelog records."""
    head = {"f": SNAPSHOT_FORMAT, "k": 1, "w": name.writer, "e": name.epoch, "p": None, "b": name.epoch}
    return _cut(state_partition, head, states)


def _cut(state_partition: int, head: Mapping[str, object], states: Sequence[StateRecord]) -> list[Chunk]:
    pieces = [
        (number, state, state.payload[start : start + CHUNK])
        for number, state in enumerate(states)
        for start in range(0, max(len(state.payload), 1), CHUNK)
    ]
    return [
        Chunk(
            state_partition,
            _compact({**head, "i": i, "n": len(pieces), "s": number, "o": state.operator_id, "x": int(state.full)}),
            value,
        )
        for i, (number, state, value) in enumerate(pieces)
    ]


@dataclass(slots=True)
class _Epoch:
    parent: EpochName | None
    base: int
    count: int
    offset: int
    on_snapshot: bool = False
    chunks: dict[int, tuple[int, str, bool, bytes]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether all its records have been read."""
        return len(self.chunks) == self.count

    def states(self, state_partition: int) -> list[StateRecord]:
        pieces: dict[int, list[tuple[str, bool, bytes]]] = {}
        for i in range(self.count):
            number, operator_id, full, value = self.chunks[i]
            pieces.setdefault(number, []).append((operator_id, full, value))
        return [
            StateRecord(state_partition, parts[0][0], b"".join(part[2] for part in parts), parts[0][1])
            for _, parts in sorted(pieces.items())
        ]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a chain of epochs holds: `states` oldest first, starting at a full one per operator."""

    states: Sequence[StateRecord]
    bases: Mapping[str, tuple[int, int]]
    """Per operator: epoch and offset of the oldest record that it still needs."""
    snapshot: int | None = None
    """The epoch of which a snapshot was used."""


class Chain:
    """Collects the changelog records of one state partition, and follows the ancestry of a named epoch."""

    def __init__(self, topic: str, state_partition: int) -> None:
        self.topic = topic
        self.state_partition = state_partition
        self._epochs: dict[EpochName, _Epoch] = {}
        self._snapshots: dict[EpochName, _Epoch] = {}

    def add(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Takes one record; records may come twice.

        Raises:
            StateError: a record that this version can't read.
        """
        head = self._head(key, offset)
        try:
            name = EpochName(head["w"], head["e"])
            parent = None if head["p"] is None else EpochName(head["p"], head["e"] - 1)
            found = _Epoch(parent, head["b"], head["n"], offset, bool(head.get("z")))
            epoch = (self._snapshots if head.get("k") else self._epochs).setdefault(name, found)
            epoch.chunks.setdefault(head["i"], (head["s"], head["o"], bool(head["x"]), value or b""))
        except KeyError as missing:
            raise self._unreadable(offset, f"its key lacks {missing}") from None

    def complete(self, tip: EpochName) -> bool:
        """Whether all that restores the named epoch has been added.

        With two producers an epoch's records may lie before those of its parent, which another connection was sending.
        """
        epoch = self._epochs.get(tip)
        return epoch is not None and epoch.whole and self._line(tip)[1] is None

    @property
    def highest(self) -> int:
        """The highest epoch number in the log, named by offsets or not; 0 when it is empty."""
        return max((name.epoch for name in self._epochs), default=0)

    def restore(self, tip: EpochName) -> Restored:
        """The state at the named epoch.

        Raises:
            StateError: the epoch, or one that it builds on, is missing or incomplete.
        """
        line = self._ancestry(tip)
        states: dict[str, list[StateRecord]] = {}
        bases: dict[str, tuple[int, int]] = {}
        order: list[StateRecord] = []
        snapshot = line[0][1].base if line[0][1].on_snapshot else None
        # An epoch may lie before one that it follows; a snapshot behind epochs that follow the one it is of.
        offsets = list(accumulate((epoch.offset for _, epoch in line), min))
        for (name, epoch), offset in zip(reversed(line), reversed(offsets), strict=True):
            for state in epoch.states(self.state_partition):
                if state.full or state.operator_id not in states:
                    states[state.operator_id] = []
                    bases[state.operator_id] = (name.epoch, offset)
                states[state.operator_id].append(state)
                order.append(state)
        kept = {id(state) for records in states.values() for state in records}
        return Restored([state for state in order if id(state) in kept], bases, snapshot)

    def _ancestry(self, tip: EpochName) -> list[tuple[EpochName, _Epoch]]:
        """The named epoch and its parents, newest first, down to the oldest one needed, or the snapshot of that."""
        line, lacks = self._line(tip)
        if lacks is None:
            return line
        name, of_snapshot = lacks
        epoch = (self._snapshots if of_snapshot else self._epochs).get(name)
        what = "is missing" if epoch is None else f"has {len(epoch.chunks)} of its {epoch.count} records"
        raise StateError(
            f"state of partition {self.state_partition} in topic {self.topic!r}: "
            f"{'the snapshot of ' if of_snapshot else ''}epoch {name} {what}, and the "
            f"committed offsets build on it (they name epoch {tip}). Was the topic deleted, trimmed or "
            "compacted from outside? Restore it, or start the job under a new name to begin without state"
        )

    def _line(self, tip: EpochName) -> tuple[list[tuple[EpochName, _Epoch]], tuple[EpochName, bool] | None]:
        """That ancestry as far as it is there, and the first that it lacks (whether of that the snapshot)."""
        line: list[tuple[EpochName, _Epoch]] = []
        name: EpochName | None = tip
        while name is not None:
            of_snapshot = bool(line) and line[0][1].on_snapshot and name.epoch == line[0][1].base
            epoch = (self._snapshots if of_snapshot else self._epochs).get(name)
            if epoch is None or not epoch.whole:
                return line, (name, of_snapshot)
            line.append((name, epoch))
            name = epoch.parent if name.epoch > line[0][1].base else None
        return line, None

    def _head(self, key: bytes | None, offset: int) -> dict[str, Any]:
        try:
            head = json.loads(key or b"")
        except ValueError:
            head = None
        if not isinstance(head, dict) or not isinstance(head.get("f"), int):
            raise self._unreadable(offset, "it was not written by Thalweg")
        if head["f"] not in (FORMAT, SNAPSHOT_FORMAT):
            raise self._unreadable(
                offset,
                f"it has format {head['f']}, this version reads format {FORMAT} and {SNAPSHOT_FORMAT}; use the version "
                "that wrote it",
            )
        return head

    def _unreadable(self, offset: int, why: str) -> StateError:
        return StateError(f"record {offset} of topic {self.topic!r} [{self.state_partition}] can't be read: {why}")


@dataclass(slots=True)
class _Line:
    tip: EpochName | None = None
    bases: dict[str, tuple[int, int]] = field(default_factory=dict)
    base_offset: int = 0
    snapshot: int | None = None
    """The epoch of which there is a snapshot to build on."""

    def onto(self, snapshot: SnapshotPlace) -> _Line:
        """The same, with all that was needed before the snapshot replaced by it."""
        epoch = snapshot.name.epoch
        bases = {operator: base for operator, base in self.bases.items() if base[0] > epoch}
        bases |= dict.fromkeys(snapshot.operators - bases.keys(), (epoch, snapshot.place))
        return _Line(self.tip, bases, self.base_offset, epoch)


class ChangelogWriter:
    """Names the epochs that one writer appends, and knows which offsets are still needed.

    `prepare` → the records of a commit, `tips` → what its offsets name, `advance` → what is no longer needed once it is
    durable. The next epoch may be prepared before that; where one does not become durable, drop the writer.
    """

    def __init__(self, writer: str) -> None:
        self.writer = writer
        self._lines: dict[int, _Line] = {}
        self._prepared: dict[int, _Line] = {}
        self._snapshots: dict[int, SnapshotPlace] = {}

    def resume(
        self, state_partition: int, tip: EpochName, bases: Mapping[str, tuple[int, int]], snapshot: int | None = None
    ) -> None:
        """Goes on from a restored epoch; `snapshot`: see `Restored`."""
        offset = min((offset for _, offset in bases.values()), default=0)
        self._lines[state_partition] = _Line(tip, dict(bases), offset, snapshot)

    def adopt(self, snapshots: Mapping[int, SnapshotPlace]) -> None:
        """Has the next epoch of each of these state partitions build on a snapshot, which is durable."""
        for state_partition, snapshot in snapshots.items():
            line = self._lines.get(state_partition)
            known = self._snapshots.get(state_partition)
            newest = max(line.snapshot or 0 if line else 0, known.name.epoch if known else 0)
            if snapshot.operators and snapshot.name.epoch > newest:
                self._snapshots[state_partition] = snapshot

    def _line(self, state_partition: int) -> _Line:
        """What the next epoch follows, and builds on."""
        line = self._lines.get(state_partition, _Line())
        snapshot = self._snapshots.get(state_partition)
        return line if snapshot is None else line.onto(snapshot)

    def prepare(self, states: Iterable[StateRecord], end_offsets: Mapping[int, int]) -> list[Chunk]:
        """The changelog records of the next epoch of every state partition in `states`.

        Args:
            end_offsets: per state partition in `states`, an offset that none of its new records will lie before (as
                near as is cheap to know).
        """
        grouped: dict[int, list[StateRecord]] = {}
        for state in states:
            grouped.setdefault(state.state_partition, []).append(state)
        chunks: list[Chunk] = []
        self._prepared = {}
        for state_partition, records in grouped.items():
            old = self._line(state_partition)
            name = EpochName(self.writer, self.next_epoch(state_partition))
            bases = dict(old.bases)
            for record in records:
                if record.full or record.operator_id not in bases:
                    bases[record.operator_id] = (name.epoch, end_offsets[state_partition])
            base, offset = min(bases.values())
            on_snapshot = base == old.snapshot
            chunks += cut_epoch(state_partition, name, old.tip, base, records, on_snapshot=on_snapshot)
            self._prepared[state_partition] = _Line(name, bases, offset, base if on_snapshot else None)
        return chunks

    def needs_offset(self, state: StateRecord) -> bool:
        """Whether `prepare` will look at the end offset of this record's state partition."""
        return state.full or state.operator_id not in self._line(state.state_partition).bases

    def next_epoch(self, state_partition: int) -> int:
        """The number of the epoch that `prepare` makes next."""
        line = self._lines.get(state_partition, _Line())
        return line.tip.epoch + 1 if line.tip else 1

    def tips(self) -> dict[int, Tip]:
        """What the offsets of the prepared commit must name."""
        lines = self._lines | self._prepared
        return {p: Tip(line.tip, line.base_offset) for p, line in lines.items() if line.tip is not None}

    def advance(self) -> dict[int, int]:
        """What is prepared next follows what is prepared now. Returns, per state partition whose oldest needed offset
        has moved, that offset: what lies before it may be deleted when the prepared commit is durable."""
        moved = {
            p: line.base_offset
            for p, line in self._prepared.items()
            if p in self._lines and line.base_offset > self._lines[p].base_offset
        }
        self._lines |= self._prepared
        for state_partition in self._prepared:
            self._snapshots.pop(state_partition, None)
        self._prepared = {}
        return moved


def _compact(head: Mapping[str, object]) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode()
