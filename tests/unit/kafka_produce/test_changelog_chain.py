"""Epochs of state: what is restored is what the name's ancestry says, or an error."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.connectors.kafka_changelog import CHUNK, Chain, ChangelogWriter, Chunk, EpochName, cut_epoch
from thalweg.errors import StateError
from thalweg.streams.connector import StateRecord


def record(payload: bytes, *, operator: str = "window", full: bool = False, partition: int = 0) -> StateRecord:
    return StateRecord(partition, operator, payload, full)


class Log:
    """One changelog partition, as the broker keeps it."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def append(self, writer: ChangelogWriter, *states: StateRecord, named: bool = True) -> None:
        self.chunks += writer.prepare(states, {0: len(self.chunks)})
        if named:
            self.tip = writer.tips()[0]
            writer.advance()

    def chain(self, start: int = 0) -> Chain:
        chain = Chain("job-changelog", 0)
        for offset, chunk in enumerate(self.chunks):
            if offset >= start:
                chain.add(chunk.key, chunk.value, offset)
        return chain

    def payloads(self) -> list[bytes]:
        return [state.payload for state in self.chain(self.tip.base_offset).restore(self.tip.name).states]


def test_a_full_record_supersedes_what_its_operator_had() -> None:
    log, writer = Log(), ChangelogWriter("w1")
    log.append(writer, record(b"a1"), record(b"b1", operator="join"))
    log.append(writer, record(b"a2"))
    log.append(writer, record(b"a3", full=True), record(b"b3", operator="join"))
    log.append(writer, record(b"a4"))
    assert log.payloads() == [b"b1", b"a3", b"b3", b"a4"]
    assert log.tip.base_offset == 0
    log.append(writer, record(b"b5", operator="join", full=True))
    assert log.payloads() == [b"a3", b"a4", b"b5"]
    assert log.tip.base_offset == 3


def test_large_states_are_cut_and_come_back_whole() -> None:
    log, writer = Log(), ChangelogWriter("w1")
    payload = random.Random(1).randbytes(2 * CHUNK + 17)
    log.append(writer, record(payload, full=True), record(b"", operator="empty", full=True))
    assert len(log.chunks) == 4
    assert max(len(chunk.key) + len(chunk.value) for chunk in log.chunks) < 1_000_000
    assert log.payloads() == [payload, b""]


def test_an_epoch_that_no_offset_names_is_passed_over() -> None:
    log, first = Log(), ChangelogWriter("w1")
    log.append(first, record(b"1"))
    log.append(first, record(b"2, never named"), named=False)
    second = ChangelogWriter("w2")
    restored = log.chain().restore(log.tip.name)
    second.resume(0, log.tip.name, restored.bases)
    log.append(second, record(b"2"))
    log.append(second, record(b"3"))
    assert log.payloads() == [b"1", b"2", b"3"]
    assert log.tip.name == EpochName("w2", 3)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_epoch_is_an_error_and_never_empty_state(lost: int) -> None:
    log, writer = Log(), ChangelogWriter("w1")
    for n in range(3):
        log.append(writer, record(b"%d" % n))
    del log.chunks[lost]
    with pytest.raises(StateError, match=rf"epoch {lost + 1} \(writer w1\) is missing"):
        log.chain().restore(log.tip.name)


def test_an_incomplete_epoch_is_an_error() -> None:
    log, writer = Log(), ChangelogWriter("w1")
    log.append(writer, record(bytes(CHUNK + 1)))
    del log.chunks[1]
    assert not log.chain().complete(log.tip.name)
    with pytest.raises(StateError, match="1 of its 2 records"):
        log.chain().restore(log.tip.name)


@pytest.mark.parametrize("key", [b"", None, b"{}", b"[1]", b"\xff", b'{"f":1}', b'{"f":"1"}'])
def test_records_of_others_are_refused(key: bytes | None) -> None:
    with pytest.raises(StateError, match=r"record 7 of topic 'job-changelog' \[0\] can't be read"):
        Chain("job-changelog", 0).add(key, b"", 7)


def test_another_format_is_refused() -> None:
    chunk = cut_epoch(0, EpochName("w", 1), None, 1, [record(b"x")])[0]
    newer = json.dumps(json.loads(chunk.key) | {"f": 3}).encode()
    with pytest.raises(StateError, match="has format 3, this version reads format 1 and 2"):
        Chain("job-changelog", 0).add(newer, b"x", 0)


def test_advance_tells_what_may_be_deleted() -> None:
    log, writer = Log(), ChangelogWriter("w1")
    log.append(writer, record(b"1", full=True))
    log.append(writer, record(b"2"))
    log.chunks += writer.prepare([record(b"3", full=True)], {0: 2})
    assert writer.advance() == {0: 2}


def test_an_epoch_may_lie_before_its_parent() -> None:
    """Two producers send at the same time, so the records of the younger epoch may reach the log first."""
    log, writer = Log(), ChangelogWriter("w1")
    log.append(writer, record(b"1"))
    for payload in (b"2", b"3"):
        log.append(writer, record(payload))
    log.chunks[1], log.chunks[2] = log.chunks[2], log.chunks[1]
    read = Chain("job-changelog", 0)
    complete = []
    for offset, chunk in enumerate(log.chunks):
        read.add(chunk.key, chunk.value, offset)
        complete.append(read.complete(log.tip.name))
    assert complete == [False, False, True]
    assert [state.payload for state in read.restore(log.tip.name).states] == [b"1", b"2", b"3"]


def test_who_goes_on_keeps_what_lies_before_the_base() -> None:
    log, writer = Log(), ChangelogWriter("w1")
    log.chunks += cut_epoch(0, EpochName("w0", 0), None, 0, [record(b"0")])  # of another history
    log.append(writer, record(b"1"))
    log.append(writer, record(b"2"))
    log.chunks[1], log.chunks[2] = log.chunks[2], log.chunks[1]
    second = ChangelogWriter("w2")
    second.resume(0, log.tip.name, log.chain().restore(log.tip.name).bases)
    log.append(second, record(b"3"))
    assert log.tip.base_offset == 1
    assert log.payloads() == [b"1", b"2", b"3"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=4),
            st.sampled_from(["named", "lost", "new writer"]),
        ),
        max_size=12,
    )
)
def test_restore_gives_the_named_history(steps: list[tuple[list[tuple[str, bool]], str]]) -> None:
    log, writer = Log(), ChangelogWriter("w0")
    expected: dict[str, list[bytes]] = {}
    number = 0
    for epoch, (operators, fate) in enumerate(steps):
        states = []
        for operator, full in operators:
            number += 1
            states.append(record(b"%d" % number, operator=operator, full=full))
        log.append(writer, *states, named=fate != "lost")
        if fate != "lost":
            for state in states:
                held = expected.setdefault(state.operator_id, [])
                if state.full:
                    held.clear()
                held.append(state.payload)
        if fate != "named":
            writer = ChangelogWriter(f"w{epoch + 1}")
            if hasattr(log, "tip"):
                writer.resume(0, log.tip.name, log.chain(log.tip.base_offset).restore(log.tip.name).bases)
    if hasattr(log, "tip"):
        found: dict[str, list[bytes]] = {}
        for state in log.chain(log.tip.base_offset).restore(log.tip.name).states:
            found.setdefault(state.operator_id, []).append(state.payload)
        assert found == expected
