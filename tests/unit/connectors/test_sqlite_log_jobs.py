"""A job on the embedded log: polls, commits, recovery, fencing, and the loss of nothing when it is killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from tests.unit.connectors.conftest import Place, numbers

from thalweg.connectors.sqlite import committer as committer_module
from thalweg.connectors.sqlite.wakeup import Signal
from thalweg.connectors.sqlite_log import EmbeddedLog, SqliteBroker
from thalweg.errors import ConfigurationError, ConnectorError, FencedError, StateError
from thalweg.records import DEAD_LETTER_SCHEMA, MAX_DEAD_PAYLOAD
from thalweg.streams.connector import Commit, Committer, PartitionEpoch, Source, SourceBatch, StateRecord

IN = ("in", 0)


def drain(source: Source, rows: int) -> list[SourceBatch]:
    batches = []
    while batch := source.poll(rows, 0):
        batches.append(batch)
    return batches


def epoch(number: int, position: int = 0) -> dict[tuple[str, int], PartitionEpoch]:
    return {IN: PartitionEpoch(number, position, 7)}


# -- source


@pytest.mark.parametrize("rows", [1, 7, 1000, 10**9])
def test_any_poll_size_gives_the_same(place: Place, rows: int) -> None:
    place.log.ensure_topic("in", 3)
    for start in range(0, 300, 50):
        keys = [str(i % 11) for i in range(start, start + 50)]
        place.log.append_records("in", [str(i) for i in range(start, start + 50)], keys=keys)
    source = place.source()
    assert source.open() == [0, 1, 2]
    batches = drain(source, rows)
    assert all(batch.frame.height <= rows for batch in batches)
    got = pl.concat([batch.frame for batch in batches])
    expected = place.log.records("in").select(
        pl.col("value").cast(pl.String).cast(pl.Int64).alias("n"), "partition", "offset"
    )
    order = ["__partition", "__offset"]
    assert got.sort(order).select("n", *order).rows() == expected.rows()
    for _, part in got.group_by("__partition"):
        assert part["__offset"].is_sorted()
    last = {p: position for batch in batches for p, position in batch.positions.items()}
    assert last == dict(expected.group_by("partition").agg(pl.len()).rows())
    assert source.caught_up() == {0, 1, 2}
    assert set(source.lag().values()) == {0}
    source.close()


def test_partitions_advance_together(place: Place) -> None:
    place.log.ensure_topic("in", 2)
    place.log.append_records("in", ["1"] * 1000, partition=0)
    place.log.append_records("in", ["2"] * 1000, partition=1)
    source = place.source()
    source.open()
    batch = source.poll(100, 0)
    assert batch is not None
    assert batch.positions == {0: 50, 1: 50}
    source.close()


def test_unreadable_records_beside_good_ones(place: Place) -> None:
    big = b"x" * (MAX_DEAD_PAYLOAD + 10)
    place.log.append_records(
        "in", ["1", "bad", None, big, "2"], keys=["a", "b", "c", "d", "e"], timestamps=[1, 2, 3, 4, 5]
    )
    source = place.source(broker_timestamps=True, clock=lambda: 99)
    source.open()
    batch = source.poll(100, 0)
    assert batch is not None
    assert batch.frame.rows() == [(1, 0, 0, 99, 1), (2, 0, 4, 99, 5)]
    assert batch.received == 5
    assert batch.positions == {0: 5}
    dead = batch.dead
    assert dead is not None
    assert dead.schema == DEAD_LETTER_SCHEMA
    assert dead["offset"].to_list() == [1, 2, 3]
    assert dead["key"].to_list() == [b"b", b"c", b"d"]
    assert dead["payload_size"].to_list() == [3, None, len(big)]
    assert dead["payload"].to_list() == [b"bad", None, big[:MAX_DEAD_PAYLOAD]]
    assert [sha is not None for sha in dead["payload_sha256"]] == [False, False, True]
    source.close()


def test_start_and_seek(place: Place) -> None:
    place.log.append_records("in", ["1", "2", "3"])
    latest = place.source(start="latest")
    latest.open()
    assert latest.poll(10, 0) is None
    latest.seek({0: 1})
    batch = latest.poll(10, 0)
    assert batch is not None
    assert batch.frame["n"].to_list() == [2, 3]
    with pytest.raises(ConnectorError, match="was the log replaced"):
        latest.seek({0: 4})
    with pytest.raises(ConnectorError, match="no partition 5"):
        latest.seek({5: 0})
    latest.close()
    with pytest.raises(ConfigurationError, match="earliest"):
        place.source(start="now")


def test_a_waiting_poll_gets_what_another_thread_appends(place: Place) -> None:
    place.log.ensure_topic("in")
    source = place.source()
    source.open()
    threading.Timer(0.05, lambda: place.log.append_records("in", ["7"])).start()
    batch = source.poll(10, 60_000)
    assert batch is not None
    assert batch.frame["n"].to_list() == [7]
    source.close()


def test_wake_ends_a_waiting_poll(place: Place) -> None:
    place.log.ensure_topic("in")
    source = place.source()
    source.open()
    threading.Timer(0.05, source.wake).start()
    assert source.poll(10, 600_000) is None
    place.log.append_records("in", ["7"])
    assert source.poll(10, 60_000) is not None
    source.close()


def test_another_process_appends(place: Place) -> None:
    place.log.ensure_topic("in")
    source = place.source()
    source.open()
    code = f"""
        from thalweg.connectors.sqlite_log import EmbeddedLog
        with EmbeddedLog({str(place.path)!r}) as log:
            for i in range(200):
                log.append_records("in", [str(i)])
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    got: list[int] = []
    while len(got) < 200:
        batch = source.poll(1000, 30_000)
        assert batch is not None
        got += batch.frame["n"].to_list()
        place.log.append_records("elsewhere", ["1"])  # both processes write
    assert got == list(range(200))
    assert writer.wait() == 0
    source.close()


def test_events_that_retention_removed(place: Place) -> None:
    place.log.append_records("in", ["1", "2"])
    place.log.append_records("in", ["3"])
    with sqlite3.connect(place.path) as connection:
        connection.execute("DELETE FROM log_batches WHERE base_offset = 0")
        connection.execute("UPDATE log_partitions SET log_start = 2")
    source = place.source()
    source.open()
    source.seek({0: 0})
    with pytest.raises(ConnectorError, match=r"removed 2 events \(offsets 0 to 1\) before the job read them"):
        source.poll(10, 0)
    source.close()
    lenient = SqliteBroker(f"sqlite:///{place.path}", on_trimmed="skip")
    place.broker.close()
    place.broker = lenient
    source = place.source()
    source.open()
    source.seek({0: 0})
    batch = source.poll(10, 0)
    assert batch is not None
    assert batch.frame["n"].to_list() == [3]
    source.close()


# -- committer


def committer(place: Place, **settings: object) -> Committer:
    return place.broker.committer(place.job(**settings), [])


def test_a_commit_is_recovered(place: Place) -> None:
    first = committer(place)
    assert first.recover([IN]).epochs == {}
    states = [StateRecord(0, "a", b"full", True), StateRecord(0, "b", b"b1")]
    first.commit(Commit(epoch(1, 10), [numbers(1, 2)], states))
    first.commit(Commit(epoch(2, 20), [numbers(3)], [StateRecord(0, "a", b"delta"), StateRecord(1, "a", b"")]))
    first.close()
    again = committer(place)
    recovered = again.recover([IN])
    assert recovered.epochs == epoch(2, 20)
    assert [(s.state_partition, s.operator_id, s.payload, s.full) for s in recovered.states] == [
        (0, "a", b"full", True),
        (0, "b", b"b1", False),
        (0, "a", b"delta", False),
        (1, "a", b"", False),
    ]
    assert place.numbers() == [1, 2, 3]
    again.commit(Commit(epoch(3, 30), (), [StateRecord(0, "a", b"new", True)]))
    states = list(again.recover([IN]).states)
    assert [s.payload for s in states if s.operator_id == "a"] == [b"", b"new"]
    jobs = place.log.jobs()
    assert jobs.select("job", "topic", "position", "epoch").rows() == []  # topic "in" was never made
    again.close()


def test_state_larger_than_a_row(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "MAX_PART", 10)
    payload = os.urandom(95)
    writer = committer(place)
    writer.recover([IN])
    writer.commit(Commit(epoch(1), (), [StateRecord(0, "a", b"old")]))
    writer.commit(Commit(epoch(2), (), [StateRecord(0, "a", payload, True)]))
    writer.commit(Commit(epoch(3), (), [StateRecord(0, "a", payload[:11])]))
    assert [s.payload for s in writer.recover([IN]).states] == [payload, payload[:11]]
    writer.close()


def test_an_epoch_gap_takes_nothing(place: Place) -> None:
    writer = committer(place)
    writer.recover([IN])
    writer.commit(Commit(epoch(1), [numbers(1)]))
    with pytest.raises(StateError, match="epoch 3 after 1"):
        writer.commit(Commit(epoch(3), [numbers(2)]))
    assert place.numbers() == [1]
    assert writer.recover([IN]).epochs == epoch(1)
    writer.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DELETE FROM log_states WHERE sequence = 1", "an epoch before record 2 is missing"),
        ("DELETE FROM log_states WHERE sequence = 2", "3 epochs were committed, 2 are there"),
        ("DELETE FROM log_states", "3 epochs were committed, 0 are there"),
        ("UPDATE log_states SET payload = x'7878' WHERE sequence = 1", "record 1 of state partition 0 is damaged"),
        ("DELETE FROM log_offsets", "has state in .*, but no offsets for it"),
    ],
)
def test_missing_state_is_an_error(place: Place, damage: str, message: str) -> None:
    writer = committer(place)
    writer.recover([IN])
    for number in (1, 2, 3):
        writer.commit(Commit(epoch(number), (), [StateRecord(0, "a", b"x")]))
    writer.close()
    with sqlite3.connect(place.path) as connection:
        connection.execute(damage)
    again = committer(place)
    with pytest.raises(StateError, match=message):
        again.recover([IN])
    again.close()


def test_an_earlier_instance_is_fenced(place: Place) -> None:
    old, new = committer(place), committer(place)
    old.recover([IN])
    old.commit(Commit(epoch(1), [numbers(1)]))
    new.recover([IN])
    for attempt in (lambda: old.commit(Commit(epoch(2), [numbers(2)])), lambda: old.send(numbers(3))):
        with pytest.raises(FencedError, match="another instance of job 'job' has taken over"):
            attempt()
    new.commit(Commit(epoch(2), [numbers(4)]))
    assert place.numbers() == [1, 4]
    old.close()
    new.close()


def test_other_jobs_are_not_fenced(place: Place) -> None:
    one, two = committer(place), committer(place, name="other")
    one.recover([IN])
    two.recover([IN])
    one.commit(Commit(epoch(1, 5)))
    two.commit(Commit(epoch(1, 6)))
    assert one.recover([IN]).epochs[IN].position == 5
    assert two.recover([IN]).epochs[IN].position == 6
    one.close()
    two.close()


def test_at_least_once_sends_at_once(place: Place) -> None:
    writer = committer(place, guarantee="at-least-once")
    writer.recover([IN])
    writer.send(numbers(1, 2, timestamps=pl.Series([5, 6]), headers=[{"h": b"1"}, {}]))
    records = place.log.records("out")
    assert records["timestamp"].to_list() == [5, 6]
    assert records["headers"].to_list() == [[{"key": "h", "value": b"1"}], []]
    writer.close()


def test_what_cannot_be_served_is_refused(place: Place) -> None:
    with pytest.raises(ConfigurationError, match="one worker"):
        committer(place, slot=1)
    with pytest.raises(ConfigurationError, match="on_trimmed"):
        SqliteBroker(f"sqlite:///{place.path}", on_trimmed="ignore")
    with pytest.raises(ConfigurationError, match="durability"):
        SqliteBroker(f"sqlite:///{place.path}", durability="high")
    with pytest.raises(ConfigurationError, match="retention_bytes"):
        SqliteBroker(f"sqlite:///{place.path}", retention_bytes=0)
    first = committer(place, state_partitions=2)
    first.recover([IN])
    first.close()
    other = committer(place, state_partitions=3)
    with pytest.raises(StateError, match="keeps its state in 2 partitions, now 3"):
        other.recover([IN])
    other.close()


_VICTIM = """
    import sys
    from tests.unit.connectors.conftest import numbers
    from thalweg.connectors.sqlite_log import EmbeddedLog, SqliteBroker
    from thalweg.streams.connector import Commit, JobSettings, PartitionEpoch, StateRecord

    committer = SqliteBroker("sqlite:///" + sys.argv[1]).committer(JobSettings("job"), [])
    recovered = committer.recover([("in", 0)])
    epoch = recovered.epochs[("in", 0)].epoch if recovered.epochs else 0
    print("up", flush=True)
    while True:
        epoch += 1
        rows = range(epoch * 10, epoch * 10 + 10)
        state = StateRecord(0, "op", str(epoch).encode() * 2000, full=epoch % 5 == 0)
        committer.commit(Commit({("in", 0): PartitionEpoch(epoch, epoch * 10, 0)}, [numbers(*rows)], [state]))
"""


def test_kill_in_the_middle_of_commits(place: Place) -> None:
    """Outputs, offsets and state agree after every kill -9, wherever it struck."""
    dice = random.Random(3)
    last = 0
    for _ in range(6):
        command = [sys.executable, "-c", textwrap.dedent(_VICTIM), str(place.path)]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"up\n"
        time.sleep(dice.uniform(0.0, 0.15))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdout.close()
        reader = committer(place)
        recovered = reader.recover([IN])
        reader.close()
        done = recovered.epochs[IN].epoch if recovered.epochs else 0
        assert done >= last
        last = done
        assert place.numbers() == list(range(10, done * 10 + 10)) if done else True
        if done:
            full = done // 5 * 5
            expected = [str(n).encode() * 2000 for n in range(max(full, 1), done + 1)]
            assert [state.payload for state in recovered.states] == expected
    assert last > 0


# -- waking up


def watchers() -> int:
    return len([thread for thread in threading.enumerate() if thread.name.startswith("thalweg-watch-")])


def test_one_watcher_for_all_readers_of_a_file(place: Place) -> None:
    for topic in ("a", "b", "c"):
        place.log.ensure_topic(topic)
    before = watchers()
    sources = [place.source(topic) for topic in ("a", "b", "c")]
    for source in sources:
        source.open()
        source.open()
    assert watchers() == before + 1
    sources[0].close()
    sources[1].close()
    assert watchers() == before + 1
    sources[2].close()
    assert watchers() == before
    again = place.source("a")
    again.open()
    assert watchers() == before + 1
    again.close()
    again.close()
    assert watchers() == before


def test_the_watcher_outlives_a_damaged_moment(tmp_path: Path) -> None:
    """What it can't read it passes on as a wake-up, and looks again."""
    signal = Signal(tmp_path / "missing" / "data.db")
    signal.watch()
    assert signal.wait(0, 30)  # it said that it could not read
    (tmp_path / "missing").mkdir()
    with EmbeddedLog(tmp_path / "missing" / "data.db") as log:
        seen = signal.version
        log.append_records("in", ["1"])
        assert signal.wait(seen, 30)
    signal.unwatch()
