"""`thalweg topics`: those of an embedded log, or of a Kafka cluster, which it can change too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.kafka_options import (
    DEFAULT_BROKERS,
    AsJson,
    Brokers,
    SecurityFile,
    Timeout,
    cluster_or_log,
    open_admin,
    print_rows,
    settings_of,
)
from thalweg.cli.topics import DEFAULT_LOG, LogFile
from thalweg.cli.topics import topics as topics_of_log

app = typer.Typer(help="Topics of an embedded log (--log) or a Kafka cluster (--brokers).")
Topic = Annotated[str, typer.Argument(help="The topic's name.")]
Settings = Annotated[list[str] | None, typer.Option("--config", "-c", help="A setting, as name=value; may repeat.")]


@app.callback(invoke_without_command=True)
def topics(
    context: typer.Context,
    log: LogFile = DEFAULT_LOG,
    brokers: Annotated[
        str | None, typer.Option("--brokers", "-b", help="host:port of a Kafka cluster, instead of a log.")
    ] = None,
    security: SecurityFile = None,
    as_json: AsJson = False,
) -> None:
    """List the topics of an embedded log, or (--brokers) of a Kafka cluster."""
    if context.invoked_subcommand is not None:
        return
    brokers = cluster_or_log(brokers, log)
    if brokers is None:
        topics_of_log(log)
    else:
        list_(brokers, security, 10.0, as_json)


@app.command("list")
def list_(
    brokers: Brokers = DEFAULT_BROKERS, security: SecurityFile = None, timeout: Timeout = 10.0, as_json: AsJson = False
) -> None:
    """List the topics of a Kafka cluster with their partitions and records."""
    admin = open_admin(brokers, security, timeout)
    rows = []
    for name in admin.topics():
        first, end = admin.offsets(name, latest=False), admin.offsets(name, latest=True)
        held = sum(end[partition] - first[partition] for partition in first)
        rows.append({"topic": name, "partitions": len(first), "offsets": held})
    print_rows(rows, {"topic": str, "partitions": int, "offsets": int}, as_json=as_json)


@app.command()
def describe(
    topic: Topic,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show where each partition lives, its offsets, and (as a table) the topic's settings."""
    admin = open_admin(brokers, security, timeout)
    found = admin.describe(topic)
    first, end = admin.offsets(topic, latest=False), admin.offsets(topic, latest=True)
    rows = [
        {
            "partition": placed.partition,
            "leader": placed.leader,
            "replicas": " ".join(map(str, placed.replicas)),
            "in_sync": " ".join(map(str, placed.in_sync)),
            "first": first[placed.partition],
            "end": end[placed.partition],
        }
        for placed in found.placements
    ]
    columns = {"partition": int, "leader": int, "replicas": str, "in_sync": str, "first": int, "end": int}
    print_rows(rows, columns, as_json=as_json)
    if not as_json:
        print()
        settings = [{"setting": name, "value": value} for name, value in sorted(found.config.items())]
        print_rows(settings, {"setting": str, "value": str}, as_json=False)


@app.command()
def create(
    topic: Topic,
    partitions: Annotated[int | None, typer.Option(help="Else the cluster's default.", min=1)] = None,
    replication: Annotated[int | None, typer.Option(help="Else the cluster's default.", min=1)] = None,
    config: Settings = None,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    timeout: Timeout = 10.0,
) -> None:
    """Create a topic."""
    settings = {name: value or "" for name, value in settings_of(config or ()).items()}
    admin = open_admin(brokers, security, timeout)
    count = admin.create_topic(topic, partitions, replication=replication, config=settings)
    typer.echo(f"{topic} has {count} partitions")


@app.command()
def alter(
    topic: Topic,
    config: Settings = None,
    partitions: Annotated[int | None, typer.Option(help="Add partitions up to this many.", min=1)] = None,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    timeout: Timeout = 10.0,
) -> None:
    """Change settings (`-c name=value`, `-c name=` for the default), or add partitions."""
    admin = open_admin(brokers, security, timeout)
    if settings := settings_of(config or ()):
        admin.alter_topic(topic, settings)
    if partitions is not None:
        admin.grow_topic(topic, partitions)
    typer.echo(f"{topic} has {admin.partitions(topic)} partitions")


@app.command()
def delete(
    topic: Topic,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    timeout: Timeout = 10.0,
) -> None:
    """Delete a topic with all its records."""
    admin = open_admin(brokers, security, timeout)
    count = admin.partitions(topic)
    if not yes:
        typer.confirm(f"delete {topic} with its {count} partitions?", abort=True)
    admin.delete_topic(topic)
    typer.echo(f"{topic} is deleted")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="Topics as they should be: .toml, .json or .yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    brokers: Brokers = DEFAULT_BROKERS,
    security: SecurityFile = None,
    timeout: Timeout = 10.0,
) -> None:
    """Bring topics in line with a file: create, add partitions, change settings. Nothing is deleted."""
    typer.echo(str(open_admin(brokers, security, timeout).ensure_topics(file, dry_run=dry_run)))
