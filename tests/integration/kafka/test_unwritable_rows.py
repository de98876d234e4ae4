"""A job goes on when its output's schema does not take a row: the row is a dead letter, the others are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from tests.integration.kafka.commit_tools import read
from tests.unit.formats.avro_records import PlainAvro
from thalweg import App
from thalweg.formats.avro import AvroEncoder
from thalweg.kafka import KafkaProducer

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_the_sink_buries_what_the_schema_does_not_take(
    kafka: Any, new_topic: Callable[..., str], guarantee: Any
) -> None:
    source, out = new_topic(1), new_topic(1)
    rows = pl.DataFrame({"n": [1, None, 2**40, 4], "user": ["a", "b", "c", "d"], "at": [1_000, 2_000, 3_000, 4_000]})
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(source, rows, key="user", timestamp="at")
    app = App(f"job-{source}", broker=f"kafka://{kafka.bootstrap}", guarantee=guarantee)
    schema = {"n": pl.Int64, "user": pl.String}
    app.stream(source, schema=schema).to(out, format=PlainAvro(), key="user")
    app.run(until_caught_up=True)
    good = read(kafka.bootstrap, out)
    written = AvroEncoder(PlainAvro.schema).encode(pl.DataFrame({"n": [1, 4], "user": ["a", "d"]}))
    assert b"".join(record.value() for record in good) == written.data.tobytes()
    assert [(record.key(), record.timestamp()[1]) for record in good] == [(b"a", 1_000), (b"d", 4_000)]
    letters = read(kafka.bootstrap, f"{out}.dlq")
    assert [(letter.key(), json.loads(letter.value())["n"]) for letter in letters] == [(b"b", None), (b"c", 2**40)]
    described = [{name: value.decode() for name, value in letter.headers()} for letter in letters]
    assert [each["error_class"] for each in described] == ["Unwritable", "Unwritable"]
    assert "field 'n' is null" in described[0]["error_message"]
    assert [each["timestamp"] for each in described] == ["2000", "3000"]
    assert {each["topic"] for each in described} == {out}
