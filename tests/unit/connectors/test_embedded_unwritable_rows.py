"""A job on the embedded log goes on when its output's schema does not take a row: the row is a dead letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.unit.connectors.conftest import Place
from tests.unit.formats.avro_records import PlainAvro

from thalweg.connectors.sqlite.letters import EmbeddedLetters
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConfigurationError
from thalweg.formats.avro import AvroEncoder
from thalweg.kafka.dead_letter import DeadLetterQueue
from thalweg.streams import App
from thalweg.streams.connector import Commit, SinkWrite

ROWS = pl.DataFrame({"n": [1, None, 2**40, 4], "user": ["a", "b", "c", "d"], "at": [1_000, 2_000, 3_000, 4_000]})


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_sink_buries_what_the_schema_does_not_take(tmp_path: Path, guarantee: Any, partitions: int) -> None:
    path = tmp_path / "data.db"
    with EmbeddedLog(path) as log:
        log.append("in", ROWS, key="user", timestamps="at")
        log.ensure_topic("out", partitions)
    app = App("job", broker=f"sqlite:///{path}", guarantee=guarantee)
    app.stream("in", schema={"n": pl.Int64, "user": pl.String}).to("out", format=PlainAvro(), key="user")
    app.run(until_caught_up=True)
    with EmbeddedLog(path) as log:
        good = log.records("out").sort("timestamp")
        assert good.select("key", "timestamp").rows() == [(b"a", 1_000), (b"d", 4_000)]
        written = AvroEncoder(PlainAvro.schema).encode(pl.DataFrame({"n": [1, 4], "user": ["a", "d"]}))
        assert b"".join(good["value"].to_list()) == written.data.tobytes()
        letters = sorted(DeadLetterQueue(EmbeddedLetters(log), "out").letters(), key=lambda letter: letter.key or b"")
        # By nothing but a wish can a row be written: what is replayed is what was edited.
        DeadLetterQueue(EmbeddedLetters(log), "out").edit(letters[0].id, b"mended")
        assert DeadLetterQueue(EmbeddedLetters(log), "out").replay([letters[0].id]).letters == (letters[0].id,)
        assert b"mended" in log.records("out")["value"].to_list()
    assert [(letter.key, json.loads(letter.payload or b"")["n"]) for letter in letters] == [(b"b", None), (b"c", 2**40)]
    assert [(letter.error_class, letter.topic, letter.timestamp) for letter in letters] == [
        ("Unwritable", "out", 2_000), ("Unwritable", "out", 3_000),
    ]  # fmt: skip
    assert "field 'n' is null" in (letters[0].error_message or "")
    assert json.loads(letters[0].details or "") == {"job": "job"}


def test_where_no_row_can_be_written_all_are_letters(place: Place) -> None:
    committer = place.broker.committer(place.job(), [])
    committer.recover([])
    frame = pl.DataFrame({"n": [None, None], "user": ["a", "b"]}, schema={"n": pl.Int64, "user": pl.String})
    committer.commit(Commit({}, [SinkWrite("out", frame, AvroEncoder(PlainAvro.schema))]))
    assert place.log.records("out").is_empty()
    assert [json.loads(value)["user"] for value in place.log.records("out.dlq")["value"]] == ["a", "b"]


def test_columns_that_no_row_can_be_written_of_stop_the_job(place: Place) -> None:
    committer = place.broker.committer(place.job(), [])
    committer.recover([])
    frame = pl.DataFrame({"n": [1]})
    with pytest.raises(ConfigurationError, match="user"):
        committer.commit(Commit({}, [SinkWrite("out", frame, AvroEncoder(PlainAvro.schema))]))
