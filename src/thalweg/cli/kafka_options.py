"""What the commands about Kafka have in common: which cluster, who we are, and how answers are printed."""

from __future__ import annotations

import json as json_module
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.kafka.admin import KafkaAdmin
    from thalweg.kafka.security import KafkaSecurity

Brokers = Annotated[
    str, typer.Option("--brokers", "-b", envvar="THALWEG_KAFKA_BROKERS", help="host:port[,host:port …] of the cluster.")
]
DEFAULT_BROKERS = "localhost:9092"
LogOrBrokers = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        "-b",
        help="host:port of a Kafka cluster, instead of the log of --log (also $THALWEG_KAFKA_BROKERS).",
    ),
]
SecurityFile = Annotated[
    Path | None,
    typer.Option(
        "--security",
        envvar="THALWEG_KAFKA_SECURITY_FILE",
        help="TLS and SASL: a .toml, .json or Java .properties file; without it THALWEG_KAFKA_PROTOCOL … count.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that one request may take.", min=0.1)]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that a command is about; see `gathers_options`."""

    brokers: Brokers = DEFAULT_BROKERS
    security: SecurityFile = None
    timeout: Timeout = 10.0

    def admin(self) -> KafkaAdmin:
        """Its administration."""
        from thalweg.kafka.admin import KafkaAdmin

        brokers = self.brokers.removeprefix("kafka://")
        return KafkaAdmin(brokers, timeout=self.timeout, security=security_of(self.security))


def cluster_or_log(brokers: str | None, log: Path) -> str | None:
    """Which cluster is meant, None: the embedded log. Where neither is named, $THALWEG_KAFKA_BROKERS is."""
    from thalweg.cli.topics import DEFAULT_LOG

    return brokers if brokers is not None or log != DEFAULT_LOG else os.environ.get("THALWEG_KAFKA_BROKERS")


def security_of(file: Path | None) -> KafkaSecurity:
    """Who we are, by the file or else the environment."""
    from thalweg.kafka.security import KafkaSecurity

    return KafkaSecurity.from_env() if file is None else KafkaSecurity.from_file(file)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type], *, as_json: bool) -> None:
    """Rows as a table, or as JSON lines.

    Args:
        columns: names and types; numbers stand on the right.
    """
    if as_json:
        for row in rows:
            print(json_module.dumps(row, default=str), flush=True)
        return
    import polars as pl

    from thalweg.cli.topics import show

    kinds = {int: pl.Int64, str: pl.String}
    frame = pl.DataFrame(
        [list(row.values()) for row in rows], schema={name: kinds[kind] for name, kind in columns.items()}, orient="row"
    )
    show(frame, numbers=tuple(name for name, kind in columns.items() if kind is int))


def settings_of(pairs: Iterable[str]) -> dict[str, str | None]:
    """`name=value` of repeated options; `name=` sets one back to its default.

    Raises:
        ConfigurationError: no "=".
    """
    found: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"{pair!r}: write name=value")
        found[name] = value or None
    return found


def moment(text: str) -> datetime | None:
    """An ISO 8601 time (without an offset: UTC), or None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
