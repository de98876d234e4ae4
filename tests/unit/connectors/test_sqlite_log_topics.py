"""Topics of the embedded log: what is appended is what is read, and what is wrong is said."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.unit.connectors.conftest import NumberEncoder, Place, numbers

from thalweg.connectors.sqlite import codec
from thalweg.connectors.sqlite.database import Database, path_of
from thalweg.connectors.sqlite.topics import Topic, partitions_of
from thalweg.connectors.sqlite.writes import parts
from thalweg.connectors.sqlite_log import EmbeddedLog, SqliteBroker
from thalweg.errors import ConfigurationError, ConnectorError, StateError
from thalweg.streams.connector import SinkWrite, open_broker


def test_records_come_back_as_they_were(place: Place) -> None:
    place.log.append_records(
        "in",
        [b"one", None, "", "vier"],
        keys=["k", None, b"", b"\xff"],
        timestamps=[5, None, 7, 8],
        headers=[{"a": b"1", "b": b"2"}, {}, {"c": b""}, {}],
    )
    records = place.log.records("in")
    assert records["offset"].to_list() == [0, 1, 2, 3]
    assert records["value"].to_list() == [b"one", None, b"", b"vier"]
    assert records["key"].to_list() == [b"k", None, b"", b"\xff"]
    times = records["timestamp"].to_list()
    assert [times[0], *times[2:]] == [5, 7, 8]
    assert times[1] > 1_600_000_000_000, "a record without a time has the writer's clock"
    first = [{"key": "a", "value": b"1"}, {"key": "b", "value": b"2"}]
    assert records["headers"].to_list() == [first, [], [{"key": "c", "value": b""}], []]


def test_partition_is_where_kafka_puts_the_key() -> None:
    # org.apache.kafka.common.utils.UtilsTest: murmur2 of these byte strings.
    vectors = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    for count in (2, 3, 12):
        expected = [(value & 0x7FFFFFFF) % count for value in vectors.values()]
        assert partitions_of(pl.Series(list(vectors)), count).to_list() == expected


def test_rows_of_a_key_keep_their_order_in_one_partition(place: Place) -> None:
    place.broker.ensure_topic("in", 4)
    keys = [f"user-{i % 10}" for i in range(1000)]
    place.log.append_records("in", [str(i) for i in range(1000)], keys=keys)
    records = place.log.records("in")
    assert records.height == 1000
    assert records["partition"].n_unique() > 1
    for (key,), rows in records.group_by("key"):
        assert rows["partition"].n_unique() == 1
        expected = [str(i).encode() for i in range(1000) if keys[i].encode() == key]
        assert rows.sort("offset")["value"].to_list() == expected


def encoded_parts(topic: Topic, write: SinkWrite) -> Iterator[tuple[int, codec.Records]]:
    return parts(topic, write, write.encoder.encode(write.frame))


def test_a_payload_for_many_rows_is_encoded_per_partition(place: Place) -> None:
    place.broker.ensure_topic("out", 3)
    topic = place.log._topics.find("out")
    frame = pl.DataFrame({"n": range(20)})
    write = SinkWrite("out", frame, NumberEncoder(whole=True), "n", pl.Series(range(100, 120)))
    got = {partition: records.values.to_pylist() for partition, records in encoded_parts(topic, write)}
    places = partitions_of(frame["n"].cast(pl.String), 3)
    for partition, values in got.items():
        assert values == [b",".join(str(n).encode() for n in frame.filter(places == partition)["n"])]
    assert len(got) == 3


def test_writes_without_keys_take_turns(place: Place) -> None:
    place.broker.ensure_topic("out", 3)
    topic = place.log._topics.find("out")
    used = {partition for _ in range(3) for partition, _ in encoded_parts(topic, numbers(1, 2))}
    assert used == {0, 1, 2}


def test_batches_are_cut_by_count_and_bytes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_RECORDS", 10)
    monkeypatch.setattr(codec, "MAX_BYTES", 100)
    values = [b"x" * (i % 7 * 20) for i in range(57)] + [b"y" * 1000, b"z"]
    place.log.append_records("in", values)
    assert place.log.records("in")["value"].to_list() == values
    stored = sqlite3.connect(place.path).execute("SELECT count FROM log_batches ORDER BY base_offset").fetchall()
    assert max(count for (count,) in stored) <= 10
    assert len(stored) > 6


def test_read_limits(place: Place) -> None:
    place.log.append_records("in", [str(i) for i in range(100)])
    place.log.append_records("in", [str(i) for i in range(100, 150)])
    assert place.log.records("in", start=95, limit=10)["offset"].to_list() == list(range(95, 105))
    assert place.log.records("in", start=149)["value"].to_list() == [b"149"]
    assert place.log.records("in", start=500).is_empty()
    with pytest.raises(ConfigurationError, match="partitions 0 to 0, not 3"):
        place.log.records("in", partition=3)


def test_unknown_topic_names_close_ones(place: Place) -> None:
    with pytest.raises(ConnectorError, match="it holds none yet"):
        place.broker.partitions("sensors")
    place.log.ensure_topic("sensor-stream", 2)
    with pytest.raises(ConnectorError, match="did you mean 'sensor-stream'"):
        place.broker.partitions("sensor-straem")
    with pytest.raises(ConnectorError, match="it holds sensor-stream"):
        place.broker.partitions("logins")
    assert place.broker.partitions("sensor-stream") == 2
    assert place.broker.ensure_topic("sensor-stream", 7) == 2, "a topic that is there stays as it is"


@pytest.mark.parametrize("name", ["", "two words", "x" * 250, "bell\a"])
def test_topic_names_that_cannot_be(place: Place, name: str) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        place.broker.ensure_topic(name)


def test_listings(place: Place) -> None:
    place.log.ensure_topic("empty", 2)
    place.log.append_records("in", ["1", "2"])
    assert place.log.topics().select("topic", "partitions", "events").rows() == [("empty", 2, 0), ("in", 1, 2)]
    assert place.log.jobs().is_empty()


# -- the file


def test_urls() -> None:
    assert path_of("sqlite:///data.db") == Path("data.db")
    assert path_of("sqlite:////var/data.db") == Path("/var/data.db")
    for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "kafka://h"):
        with pytest.raises(ConfigurationError, match="name a file"):
            path_of(url)


def test_the_url_opens_it(tmp_path: Path) -> None:
    broker = open_broker(f"sqlite:///{tmp_path}/deep/data.db", retention="1h")
    assert isinstance(broker, SqliteBroker)
    assert broker.ensure_topic("in") == 1
    broker.close()


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    path.write_text("name,age\n" * 1000)
    with pytest.raises(ConnectorError, match="not a SQLite file"):
        EmbeddedLog(path)
    with pytest.raises(ConnectorError, match="can't open"):
        EmbeddedLog(tmp_path)


def test_another_format_version_is_refused(place: Place) -> None:
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE log_meta SET value = '99' WHERE name = 'format'")
    with pytest.raises(StateError, match="format 99"):
        EmbeddedLog(place.path)


def test_locked_by_another_program(place: Place) -> None:
    place.log.ensure_topic("in")
    impatient = EmbeddedLog(place.path, busy_timeout="50ms")
    other = sqlite3.connect(place.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConnectorError, match="write lock for 50 ms"):
        impatient.append_records("in", ["1"])
    other.execute("COMMIT")
    assert impatient.append_records("in", ["1"]) == 1
    impatient.close()
    other.close()


def test_full_disk_takes_nothing(place: Place) -> None:
    """SQLite's own page limit stands in for a full disk: the same error, at the same places."""
    place.log.append_records("in", ["1"])
    connection = place.log._topics.database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(ConnectorError, match="disk is full; nothing of this write took effect"):
        place.log.append_records("in", [os.urandom(100_000), os.urandom(100_000)])
    assert place.log.records("in")["value"].to_list() == [b"1"]
    connection.execute("PRAGMA max_page_count = 1000000")
    assert place.log.append_records("in", ["2"]) == 1
    assert place.numbers("in") == [1, 2]


def test_a_damaged_batch_names_its_place(place: Place) -> None:
    place.log.append_records("in", [str(i) for i in range(10)])
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE log_batches SET payload = substr(payload, 1, 40)")
    with pytest.raises(StateError, match="topic 'in', partition 0, offset 0"):
        place.log.records("in")


# -- retention


def _append_trimming(place: Place, count: int) -> None:
    place.log._topics._next_trim.clear()  # looks every few seconds otherwise
    place.log.append_records("in", [str(i) for i in range(count)])


def test_retention_by_bytes(place: Place) -> None:
    place.log.ensure_topic("in")
    place.log.set_retention("in", None, 5_000)
    for _ in range(30):
        _append_trimming(place, 10)
    held = place.log.topics().row(0, named=True)
    assert held["bytes"] <= 5_000 + 600
    assert 10 <= held["events"] < 300
    assert place.log.records("in")["offset"].to_list() == list(range(300 - held["events"], 300))


def test_retention_by_age(place: Place) -> None:
    _append_trimming(place, 10)
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE log_batches SET appended = appended - 3600000")
    place.log.set_retention("in", "30m")
    _append_trimming(place, 1)
    assert place.log.records("in")["offset"].to_list() == [10]
    assert place.log.topics()["events"].to_list() == [1]


def test_without_retention_everything_stays(place: Place) -> None:
    place.log.ensure_topic("in")
    place.log.set_retention("in", None)
    _append_trimming(place, 10)
    with sqlite3.connect(place.path) as connection:
        connection.execute("UPDATE log_batches SET appended = 0")
    _append_trimming(place, 1)
    assert place.log.topics()["events"].to_list() == [11]


# -- the write-ahead log


def test_wal_stays_small_beside_a_long_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader of a long topic reads in short transactions, so the log is folded back meanwhile."""
    monkeypatch.setattr("thalweg.connectors.sqlite.database.WAL_LIMIT", 1 << 20)
    monkeypatch.setattr("thalweg.connectors.sqlite.topics.MAX_FETCH", 100_000)  # one stored batch per read
    database: Database = place.log._topics.database

    for _ in range(20):
        place.log.append_records("in", [os.urandom(20_000) for _ in range(10)])
    largest = 0
    topic = place.log._topics.find("in")
    for chunk in place.log._chunks(topic, 0, 0, None):
        assert len(chunk)
        database._next_checkpoint = 0.0
        place.log.append_records("other", [os.urandom(200_000)])
        largest = max(largest, database.wal_bytes())
    assert largest < 8 << 20, f"{largest} bytes of write-ahead log for {20 * 200_000} bytes written"


def test_wal_recovers_from_somebody_elses_long_reader(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.connectors.sqlite.database.WAL_LIMIT", 1 << 20)
    database = place.log._topics.database
    place.log.append_records("in", ["1"])
    reader = sqlite3.connect(place.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log_batches").fetchone()
    for _ in range(30):
        place.log.append_records("in", [b"x" + bytes(100_000)])  # compresses, so the state below is what fills
    for _ in range(20):
        place.log.append_records("in", [os.urandom(100_000)])
    assert database.wal_bytes() > 1 << 20, "the reader keeps it from being folded back"
    reader.execute("COMMIT")
    database._next_checkpoint = 0.0
    place.log.append_records("in", ["2"])
    assert database.wal_bytes() <= 1 << 20
    reader.close()


def test_many_threads_append(place: Place) -> None:
    def write(name: int) -> None:
        with EmbeddedLog(place.path) as log:
            for i in range(50):
                log.append_records("in", [str(name * 1000 + i)])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = place.numbers("in")
    assert len(got) == 200
    for name in range(4):
        assert [n for n in got if n // 1000 == name] == [name * 1000 + i for i in range(50)]
