"""Snapshots beside the epochs: whenever they come, and whether they count or not, what is restored is the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.connectors.kafka_changelog import CHUNK, Chain, ChangelogWriter, SnapshotPlace, cut_snapshot
from thalweg.errors import StateError
from thalweg.streams.connector import StateRecord


class Job:
    """One state partition: its log, its writer, and what each operator's state is (the payloads since a full one)."""

    def __init__(self) -> None:
        self.log: list[tuple[bytes, bytes]] = []
        self.trimmed = 0
        self.writer = ChangelogWriter("w0")
        self.states: dict[str, list[bytes]] = {}
        self.number = 0

    def commit(self, operators: list[tuple[str, bool]]) -> None:
        records = []
        for operator, full in operators:
            self.number += 1
            payload = b"%d" % self.number
            records.append(StateRecord(0, operator, payload, full))
            held = self.states.setdefault(operator, [])
            if full:
                held.clear()
            held.append(payload)
        self.log += [(chunk.key, chunk.value) for chunk in self.writer.prepare(records, {0: len(self.log)})]
        self.tip = self.writer.tips()[0]
        for offset in self.writer.advance().values():
            self.trimmed = max(self.trimmed, offset)

    def snapshot(self) -> tuple[SnapshotPlace, list[StateRecord]]:
        """All state as of now; its records are not written yet."""
        records = [StateRecord(0, name, b"+".join(held), True) for name, held in sorted(self.states.items())]
        return SnapshotPlace(self.tip.name, len(self.log), frozenset(self.states)), records

    def write(self, snapshot: tuple[SnapshotPlace, list[StateRecord]]) -> None:
        self.log += [(chunk.key, chunk.value) for chunk in cut_snapshot(0, snapshot[0].name, snapshot[1])]

    def chain(self) -> Chain:
        """As the broker gives it to a reader: trimmed, and from where the committed name says."""
        chain = Chain("job-changelog", 0)
        for offset, (key, value) in enumerate(self.log):
            if offset >= max(self.trimmed, self.tip.base_offset):
                chain.add(key, value, offset)
        return chain

    def restored(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for record in self.chain().restore(self.tip.name).states:
            if record.full:
                found[record.operator_id] = record.payload.split(b"+")
            else:
                found.setdefault(record.operator_id, []).append(record.payload)
        return found

    def restart(self) -> None:
        found = self.chain().restore(self.tip.name)
        self.writer = ChangelogWriter(f"w{self.number}-{len(self.log)}")
        self.writer.resume(0, self.tip.name, found.bases, found.snapshot)


def test_recovery_stops_at_the_snapshot_and_what_lies_before_goes() -> None:
    job = Job()
    for _ in range(3):
        job.commit([("window", False)])
    taken = job.snapshot()
    job.commit([("window", False)])  # comes before the snapshot's records
    job.write(taken)
    job.writer.adopt({0: taken[0]})
    assert job.restored() == job.states  # nothing names it yet
    job.commit([("window", False), ("join", False)])
    assert job.trimmed == job.tip.base_offset == 3
    assert job.restored() == job.states
    assert json.loads(job.log[-1][0])["f"] == 2


def test_a_missing_snapshot_is_an_error_and_never_the_epochs_after_it_alone() -> None:
    job = Job()
    job.commit([("window", False)])
    taken = job.snapshot()
    job.writer.adopt({0: taken[0]})  # never written
    job.commit([("window", False)])
    with pytest.raises(StateError, match=r"the snapshot of epoch 1 \(writer w0\) is missing"):
        job.restored()


def test_an_incomplete_snapshot_is_an_error() -> None:
    job = Job()
    job.commit([("window", False)])
    place = job.snapshot()[0]
    chunks = cut_snapshot(0, place.name, [StateRecord(0, "window", bytes(2 * CHUNK), True)])
    job.log.append((chunks[0].key, chunks[0].value))
    job.writer.adopt({0: place})
    job.commit([("window", False)])
    with pytest.raises(StateError, match=r"the snapshot of epoch 1 .* has 1 of its 2 records"):
        job.restored()


def test_an_older_snapshot_does_not_replace_a_newer_one() -> None:
    job = Job()
    job.commit([("window", False)])
    old = job.snapshot()
    job.commit([("window", False)])
    new = job.snapshot()
    job.write(new)
    job.write(old)
    job.writer.adopt({0: new[0]})
    job.writer.adopt({0: old[0]})
    job.commit([("window", False)])
    assert json.loads(job.log[-1][0])["b"] == 2
    job.writer.adopt({0: old[0]})
    job.commit([("window", False)])
    assert json.loads(job.log[-1][0])["b"] == 2
    assert job.restored() == job.states


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.lists(
                st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=3, unique_by=lambda x: x[0]
            ),
            st.sampled_from(["take", "write", "adopt", "abandon", "restart"]),
        ),
        max_size=30,
    )
)
def test_whatever_becomes_of_snapshots_the_state_is_the_same(steps: list[object]) -> None:
    job = Job()
    job.commit([("a", True)])
    taken: list[tuple[SnapshotPlace, list[StateRecord]]] = []
    written: list[SnapshotPlace] = []
    for step in steps:
        if isinstance(step, list):
            job.commit(step)
        elif step == "take":
            taken.append(job.snapshot())
        elif step == "write" and taken:
            job.write(taken[0])
            written.append(taken.pop(0)[0])
        elif step == "adopt" and written:
            job.writer.adopt({0: written.pop()})
        elif step == "abandon" and taken:
            taken.pop()
        elif step == "restart":
            job.restart()
            taken, written = [], []
        assert job.restored() == job.states
