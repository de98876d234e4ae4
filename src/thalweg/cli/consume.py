"""`thalweg consume`: the records of a topic, as a table or as JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer

from thalweg.cli.groups import target
from thalweg.cli.kafka_options import DEFAULT_BROKERS, AsJson, Brokers, SecurityFile, security_of
from thalweg.errors import ConnectorError

if TYPE_CHECKING:
    from thalweg.kafka import KafkaConsumer
    from thalweg.kafka.rows import KafkaRecord

_CELL = 200


def consume(
    topic: Annotated[str, typer.Argument(help="What to read.")],
    start: Annotated[
        str, typer.Option("--from", help="earliest, latest, an offset, or an ISO time (UTC if it names none).")
    ] = "earliest",
    partition: Annotated[int | None, typer.Option("--partition", "-p", help="Only this one.", min=0)] = None,
    limit: Annotated[int | None, typer.Option("--max", "-n", help="At most so many records.", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on at the end, until Ctrl-C.")] = False,
    format: Annotated[
        str, typer.Option("--format", "-f", help="Of the values: text, json, avro, protobuf, arrow, raw.")
    ] = "text",
    headers: Annotated[bool, typer.Option("--headers", help="Show headers too.")] = False,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a topic's records, without a group and without committing anything."""
    from thalweg.kafka import KafkaConsumer

    letters: list[pl.DataFrame] = []
    with KafkaConsumer(
        brokers.removeprefix("kafka://"),
        format=format,
        key_format="text",
        headers=headers,
        security=security_of(security),
        on_bad_records=letters.append,
    ) as consumer:
        ends = _begin(consumer, topic, start, partition)
        left = limit if limit is not None else -1
        for record in _records(consumer, None if follow else ends, letters):
            print(_line(record, as_json), flush=True)
            left -= 1
            if left == 0:
                break


def _begin(consumer: KafkaConsumer, topic: str, start: str, partition: int | None) -> dict[tuple[str, int], int]:
    """Places the consumer; returns the ends at this moment."""
    topics = consumer.topics()
    if topic not in topics or (partition is not None and partition >= topics[topic]):
        raise ConnectorError(f"there is no topic {topic!r}" + (f" with a partition {partition}" if partition else ""))
    wanted = [(topic, p) for p in (range(topics[topic]) if partition is None else [partition])]
    to = target(start)
    consumer.assign(dict.fromkeys(wanted, to if isinstance(to, int) else -1 if to == "latest" else -2))
    if isinstance(to, datetime):
        consumer.assign(consumer.offsets_at(wanted, to))
    return consumer.end_offsets(ask=True)


def _records(
    consumer: KafkaConsumer, ends: Mapping[tuple[str, int], int] | None, letters: list[pl.DataFrame]
) -> Iterator[KafkaRecord | dict[str, Any]]:
    """Records, and for those that can't be read what is known of them, up to the ends (None: for ever)."""
    while True:
        record = consumer.poll(0.5)
        while letters:
            yield from letters.pop(0).iter_rows(named=True)
        if record is not None:
            yield record
        elif ends is not None and all(consumer.read_to(tp, end) for tp, end in ends.items()):
            return


def _line(record: KafkaRecord | dict[str, Any], as_json: bool) -> str:
    if isinstance(record, dict):
        shown: dict[str, Any] = {
            "partition": record["partition"],
            "offset": record["offset"],
            "timestamp": record["timestamp"],
            "key": None if record["key"] is None else record["key"].decode(errors="backslashreplace"),
            "error": f"{record['error_class']}: {record['error_message']}",
        }
    else:
        shown = {
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": record.key,
            "value": record.value,
        }
        if record.headers is not None:
            shown["headers"] = record.headers
    if as_json:
        return json.dumps(shown, default=_plain, ensure_ascii=False)
    rest = " ".join(_cell(shown[name]) for name in ("key", "value", "error", "headers") if name in shown)
    at = "–" if shown["timestamp"] is None else _time(shown["timestamp"])
    return f"{shown['partition']:>3} {shown['offset']:>10}  {at}  {rest}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, default=_plain, ensure_ascii=False)
    return text if len(text) <= _CELL else text[:_CELL] + " …"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, tuple | set):
        return list(value)
    return str(value)


def _time(at: int) -> str:
    whole, rest = divmod(at, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', datetime.fromtimestamp(whole, UTC).timetuple())}.{rest:03}Z"
