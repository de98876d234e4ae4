"""`thalweg produce`: lines of a file or of standard input to a topic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import polars as pl
import typer

from thalweg.cli.kafka_options import DEFAULT_BROKERS, Brokers, SecurityFile, security_of
from thalweg.errors import ConfigurationError

_LINES = 10_000


def produce(
    topic: Annotated[str, typer.Argument(help="Where to.")],
    file: Annotated[Path | None, typer.Argument(help="Lines to send; none: standard input.", dir_okay=False)] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="text: each line as it is; json, avro …: each line is a JSON object.")
    ] = "text",
    key: Annotated[str | None, typer.Option("--key", help="The field that becomes the key (not with text).")] = None,
    separator: Annotated[
        str | None, typer.Option("--key-separator", help="With text: what stands before it is the key.")
    ] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="name=value for all; may repeat.")] = None,
    compression: Annotated[str, typer.Option(help="none, gzip, snappy, lz4 or zstd.")] = "none",
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
) -> None:
    """Send lines to a topic; the answer comes when the brokers have them all."""
    from thalweg.kafka import KafkaProducer

    headers = dict(_pair(pair) for pair in header or ())
    sent = 0
    if file is not None and not file.exists():
        raise ConfigurationError(f"there is no file {file}")
    source = nullcontext(sys.stdin) if file is None else file.open(encoding="utf-8")
    with (
        source as lines,
        KafkaProducer(
            brokers.removeprefix("kafka://"), compression=compression, security=security_of(security), linger_ms=20
        ) as producer,
    ):
        for frame in _frames(lines, format, separator, sent):
            column = key if format != "text" else "__key" if separator else None
            sent += producer.send_frame(topic, frame, format=format, key=column, headers=headers or None)
    typer.echo(f"{sent} records are in {topic}", err=True)


def _frames(lines: IO[str], format: str, separator: str | None, sent: int) -> Iterator[pl.DataFrame]:
    while part := [line.rstrip("\r\n") for line in islice(lines, _LINES)]:
        part = [line for line in part if line]
        if not part:
            continue
        if format != "text":
            yield _objects(part)
        elif separator is None:
            yield pl.DataFrame({"value": part})
        else:
            split = [line.split(separator, 1) for line in part]
            yield pl.DataFrame(
                {
                    "value": [pair[-1] for pair in split],
                    "__key": [pair[0] if len(pair) > 1 else None for pair in split],
                },
                schema={"value": pl.String, "__key": pl.String},
            )


def _objects(lines: list[str]) -> pl.DataFrame:
    """JSON lines as a frame.

    Raises:
        ConfigurationError: a line that is not a JSON object; it names the first.
    """
    from thalweg.formats import open_format
    from thalweg.kafka.rows import raw_of

    decoded = open_format("json").decoder().decode(raw_of([line.encode() for line in lines]))
    if decoded.errors:
        first = decoded.errors[0]
        raise ConfigurationError(f"{lines[first.row][:80]!r} can't be sent: {first.error_class}: {first.message}")
    return decoded.frame


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"header {text!r}: write name=value")
    return name, value
