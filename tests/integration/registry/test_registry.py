"""The schema registry client and the Avro format, against a real registry."""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from tests.servers.apicurio import Apicurio
from tests.unit.formats.conftest import raw_records
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConfigurationError
from thalweg.formats import open_format
from thalweg.kafka.schema_registry import (
    AvroFormat,
    Compatibility,
    IncompatibleSchemaError,
    Reference,
    RegistryUnavailableError,
    RowDeserializer,
    RowSerializer,
    SchemaRegistryClient,
    SchemaRegistryError,
    UnknownSchemaError,
    UnreadablePayload,
)
from thalweg.streams import App

Fields = list[dict[str, Any]]


def record(*fields: Any, name: str = "Order") -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "namespace": "shop",
        "fields": [f if isinstance(f, dict) else {"name": f[0], "type": f[1]} for f in fields],
    }


V1 = record(("id", "int"), ("note", "string"))
V2 = record(("id", "long"), {"name": "price", "type": ["null", "double"], "default": None}, ("note", "string"))
BROKEN = record(("id", "string"), ("new", "int"))


@pytest.fixture(scope="module")
def registry(registry_url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient(registry_url, retries=1)


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4().hex[:8]}"


def framed(schema_id: int, schema: Any, *values: Any) -> list[bytes]:
    """As another program's serializer writes them."""
    parsed = fastavro.parse_schema(schema)
    made = []
    for value in values:
        out = io.BytesIO(b"\0" + schema_id.to_bytes(4, "big"))
        out.seek(5)
        fastavro.schemaless_writer(out, parsed, value)
        made.append(out.getvalue())
    return made


def test_register_look_up_versions(registry: SchemaRegistryClient, topic: str) -> None:
    subject = f"{topic}-value"
    first = registry.register(subject, V1)
    assert registry.register(subject, V1) == first
    second = registry.register(subject, V2)
    assert second != first
    assert registry.versions(subject) == [1, 2]
    assert subject in registry.subjects()
    assert registry.latest(subject).id == second
    assert json.loads(registry.version(subject, 1).schema.text) == V1
    assert registry.lookup(subject, V2).version == 2
    assert (subject, 1) in registry.subjects_of(first)
    fresh = SchemaRegistryClient(registry.urls)
    assert json.loads(fresh.schema(first).text) == V1
    with pytest.raises(UnknownSchemaError):
        fresh.version(subject, 9)
    with pytest.raises(UnknownSchemaError):
        fresh.versions("no-such-subject")
    with pytest.raises(UnknownSchemaError):
        fresh.lookup(subject, BROKEN)
    registry.delete_subject(subject)
    assert subject not in registry.subjects()


def test_compatibility_is_checked(registry: SchemaRegistryClient, topic: str) -> None:
    subject = f"{topic}-value"
    registry.register(subject, V1)
    registry.set_compatibility(Compatibility.BACKWARD, subject)
    assert registry.compatibility(subject) is Compatibility.BACKWARD
    assert registry.check(subject, V2)
    refused = registry.check(subject, BROKEN)
    assert not refused
    with pytest.raises(IncompatibleSchemaError):
        registry.register(subject, BROKEN)
    registry.set_compatibility("NONE", subject)
    assert registry.register(subject, BROKEN)
    assert registry.check("a-subject-without-versions", V1)
    with pytest.raises(SchemaRegistryError):
        registry.register(subject, "{not a schema")


def test_references_are_followed(registry: SchemaRegistryClient, topic: str) -> None:
    registry.register(f"{topic}-money", record(("amount", "double"), name="Money"))
    order = record(("id", "int"), ("price", "shop.Money"))
    reference = Reference("shop.Money", f"{topic}-money", 1)
    number = registry.register(f"{topic}-value", order, references=[reference])
    fresh = SchemaRegistryClient(registry.urls)
    assert fresh.schema(number).references == (reference,)
    payloads = framed(number, record(("id", "int"), ("price", record(("amount", "double"), name="Money"))),
                      {"id": 1, "price": {"amount": 2.5}})  # fmt: skip
    decoded = AvroFormat(fresh).for_topic(topic).decoder().decode(raw_records(payloads))
    assert decoded.frame.to_dicts() == [{"id": 1, "price": {"amount": 2.5}}]


def test_many_versions_in_one_batch_are_read_by_the_latest(registry: SchemaRegistryClient, topic: str) -> None:
    ids = [registry.register(f"{topic}-value", schema) for schema in (V1, V2)]
    payloads: list[bytes | None] = []
    for n in range(20):
        payloads += framed(ids[0], V1, {"id": n, "note": "one"})
        payloads += framed(ids[1], V2, {"id": -n, "price": n / 4, "note": "two"})
    payloads[7] = None
    payloads[8] = b'{"json": 1}'
    payloads[9] = b"\0\0\0\1"
    payloads[10] = b"\0\x7f\xff\xff\xff" + payloads[10][5:]  # type: ignore[index]
    payloads[11] = payloads[11][:-1]  # type: ignore[index]
    decoder = AvroFormat(SchemaRegistryClient(registry.urls)).for_topic(topic).decoder()
    decoded = decoder.decode(raw_records(payloads))
    assert [(e.row, e.error_class) for e in decoded.errors] == [
        (7, "NullPayload"), (8, "NotFramed"), (9, "NotFramed"), (10, "UnknownSchema"), (11, "BadAvro"),
    ]  # fmt: skip
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [n for n in range(40) if not 7 <= n <= 11]
    expected = [
        {
            "id": n // 2 if n % 2 == 0 else -(n // 2),
            "price": n // 2 / 4 if n % 2 else None,
            "note": ["one", "two"][n % 2],
        }
        for n in decoded.rows.tolist()
    ]
    assert decoded.frame.to_dicts() == expected
    wanted = AvroFormat(registry).for_topic(topic).decoder({"id": pl.Int32, "price": pl.Float32}, ["price"])
    again = wanted.decode(raw_records(payloads))
    assert again.frame.schema == {"price": pl.Float32}
    assert again.frame.height == 35


def test_a_schema_that_can_not_be_resolved_fails_its_records(registry: SchemaRegistryClient, topic: str) -> None:
    first = registry.register(f"{topic}-value", V1)
    registry.set_compatibility("NONE", f"{topic}-value")
    other = registry.register(f"{topic}-value", BROKEN)
    payloads = framed(first, V1, {"id": 1, "note": "x"}) + framed(other, BROKEN, {"id": "a", "new": 1})
    decoded = AvroFormat(registry, schema=V1).for_topic(topic).decoder().decode(raw_records(payloads))
    assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "IncompatibleSchema")]
    assert "can't be read as int" in decoded.errors[0].message or "no default" in decoded.errors[0].message
    assert decoded.frame.to_dicts() == [{"id": 1, "note": "x"}]


def test_what_is_written_is_registered_and_read_back(registry: SchemaRegistryClient, topic: str) -> None:
    frame = pl.DataFrame({"id": [1, 2], "tags": [["a"], None]})
    format = AvroFormat(registry).for_topic(topic)
    encoded = format.encoder().encode(frame)
    payloads = [encoded.data[a:b].tobytes() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]
    assert registry.versions(f"{topic}-value") == [1]
    assert format.decoder().decode(raw_records(payloads)).frame.equals(frame)
    assert format.stream_schema(topic) == frame.schema
    with pytest.raises(UnknownSchemaError):
        AvroFormat(registry, schema=BROKEN, auto_register=False).for_topic(topic).encoder().encode(
            pl.DataFrame({"id": ["a"], "new": [1]})
        )
    registry.set_compatibility("BACKWARD", f"{topic}-value")
    with pytest.raises(IncompatibleSchemaError):
        AvroFormat(registry, schema=BROKEN).for_topic(topic).encoder().encode(pl.DataFrame({"id": ["a"], "new": [1]}))
    by_latest = AvroFormat(registry, use_latest=True).for_topic(topic).encoder()
    assert by_latest.encode(frame.select("id")).data[:5].tobytes() == payloads[0][:5]


@pytest.mark.parametrize(("strategy", "subject"), [("record", "shop.Order"), ("topic-record", "{}-shop.Order")])
def test_subjects_follow_the_strategy(registry: SchemaRegistryClient, topic: str, strategy: str, subject: str) -> None:
    format = AvroFormat(registry, schema=V1, subject=strategy).for_topic(topic)
    format.encoder().encode(pl.DataFrame({"id": [1], "note": ["x"]}))
    assert subject.format(topic) in registry.subjects()
    payloads = framed(registry.latest(subject.format(topic)).id, V1, {"id": 1, "note": "x"})
    decoder = AvroFormat(registry, subject=strategy).for_topic(topic).decoder()
    assert decoder.decode(raw_records(payloads)).frame.to_dicts() == [{"id": 1, "note": "x"}]


def test_a_registry_that_is_down_is_needed_for_new_schemas_only(topic: str) -> None:
    with Apicurio() as server:
        client = SchemaRegistryClient(server.url, retries=0, timeout=2)
        number = client.register(f"{topic}-value", V1)
        decoder = AvroFormat(client).for_topic(topic).decoder()
        known = raw_records(framed(number, V1, {"id": 1, "note": "x"}))
        assert decoder.decode(known).frame.height == 1
        server.stop()
        assert decoder.decode(known).frame.height == 1
        assert client.register(f"{topic}-value", V1) == number
        with pytest.raises(RegistryUnavailableError, match="does not answer"):
            decoder.decode(raw_records(framed(number + 1, V1, {"id": 1, "note": "x"})))
        server.start()
        assert SchemaRegistryClient(server.url).register(f"{topic}-value", V1) == number  # it has forgotten its own
        more = record(("id", "int"), ("more", "string"), ("note", "string"))
        again = client.register(f"{topic}-other", more)
        decoded = decoder.decode(raw_records(framed(again, more, {"id": 2, "more": "", "note": "y"})))
        assert decoded.frame.to_dicts() == [{"id": 2, "note": "y"}]


def test_rows_are_written_and_read_one_by_one(registry: SchemaRegistryClient, topic: str) -> None:
    format = AvroFormat(registry, schema=V2)
    serialize, deserialize = RowSerializer(format, topic), RowDeserializer(format, topic)
    rows = [{"id": 1, "price": None, "note": "a"}, {"id": 2, "price": 2.5, "note": "b"}]
    payloads = serialize.many(rows)
    assert payloads == framed(registry.latest(f"{topic}-value").id, V2, *rows)
    assert serialize({"id": 2, "price": 2.5, "note": "b"}) == payloads[1]
    assert deserialize(payloads[0]) == rows[0]
    found = deserialize.many([payloads[0], b"\0", None, payloads[1]])
    assert [found[0], found[3]] == rows
    assert [str(found[1]).partition(":")[0], str(found[2]).partition(":")[0]] == ["NotFramed", "NullPayload"]
    with pytest.raises(UnreadablePayload, match="BadAvro"):
        deserialize(payloads[1][:-1])
    with pytest.raises(ConfigurationError, match="'note' of row 0 is null"):
        serialize({"id": 1})


def test_the_environment_names_the_registry(
    registry: SchemaRegistryClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THALWEG_SCHEMA_REGISTRY_URL", raising=False)
    with pytest.raises(ConfigurationError, match="THALWEG_SCHEMA_REGISTRY_URL"):
        open_format("avro", topic)
    monkeypatch.setenv("THALWEG_SCHEMA_REGISTRY_URL", registry.urls[0])
    encoded = open_format("avro", topic).encoder().encode(pl.DataFrame({"x": [1.5]}))
    assert open_format("avro", topic).decoder().decode(raw_records([encoded.data.tobytes()])).frame["x"].to_list() == [
        1.5
    ]


def test_a_stream_reads_and_writes_avro(registry: SchemaRegistryClient, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    number = registry.register(f"{topic}-value", V2)
    good = framed(number, V2, *[{"id": n, "price": n / 2, "note": "x"} for n in range(100)])
    with EmbeddedLog(path) as log:
        log.append_records(topic, [*good[:50], b"\0\0\0", good[0][:-1], *good[50:]])
    app = App("avro", broker=f"sqlite:///{path}")
    orders = app.stream(topic, format=AvroFormat(registry))
    assert orders.schema == pl.Schema({"id": pl.Int64, "price": pl.Float64, "note": pl.String})
    dear = orders.filter(pl.col("price") >= 40).select("id", twice=pl.col("price") * 2)
    dear.to(f"{topic}-out", format=AvroFormat(registry))
    app.run(until_caught_up=True)
    with EmbeddedLog(path) as log:
        written = log.read(f"{topic}-out", format=AvroFormat(registry))
        letters = log.records(f"{topic}.dlq")["headers"].to_list()
    assert written.to_dicts() == [{"id": n, "twice": float(n)} for n in range(80, 100)]
    classes = [header["value"] for headers in letters for header in headers if header["key"] == "error_class"]
    assert classes == [b"NotFramed", b"BadAvro"]
    assert json.loads(registry.latest(f"{topic}-out-value").schema.text)["fields"][0]["name"] == "id"
