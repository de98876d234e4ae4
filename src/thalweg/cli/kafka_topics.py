"""`thalweg topics`: those of an embedded log, or of a Kafka cluster, which it can change too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.kafka_options import (
    AsJson,
    Cluster,
    LogOrBrokers,
    SecurityFile,
    cluster_or_log,
    print_rows,
    settings_of,
)
from thalweg.cli.options import gathers_options
from thalweg.cli.topics import DEFAULT_LOG, LogFile
from thalweg.cli.topics import topics as topics_of_log
from thalweg.errors import ConnectorError

app = typer.Typer(help="Topics of an embedded log (--log) or a Kafka cluster (--brokers).")
Topic = Annotated[str, typer.Argument(help="The topic's name.")]
Settings = Annotated[list[str] | None, typer.Option("--config", "-c", help="A setting, as name=value; may repeat.")]


@app.callback(invoke_without_command=True)
def topics(
    context: typer.Context,
    log: LogFile = DEFAULT_LOG,
    brokers: LogOrBrokers = None,
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
        list_(brokers=brokers, security=security, timeout=10.0, as_json=as_json)


@app.command("list")
@gathers_options
def list_(cluster: Cluster, as_json: AsJson = False) -> None:
    """List the topics of a Kafka cluster with their partitions and records."""
    admin = cluster.admin()
    rows = []
    for name in admin.topics():
        try:
            first, end = admin.offsets(name, latest=False), admin.offsets(name, latest=True)
        except ConnectorError:
            if name in admin.topics():
                raise
            continue  # it was deleted while the others were looked at
        held = sum(end[partition] - first[partition] for partition in first)
        rows.append({"topic": name, "partitions": len(first), "offsets": held})
    print_rows(rows, {"topic": str, "partitions": int, "offsets": int}, as_json=as_json)


@app.command()
@gathers_options
def describe(cluster: Cluster, topic: Topic, as_json: AsJson = False) -> None:
    """Show where each partition lives, its offsets, and (as a table) the topic's settings."""
    admin = cluster.admin()
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
@gathers_options
def create(
    cluster: Cluster,
    topic: Topic,
    partitions: Annotated[int | None, typer.Option(help="Else the cluster's default.", min=1)] = None,
    replication: Annotated[int | None, typer.Option(help="Else the cluster's default.", min=1)] = None,
    config: Settings = None,
) -> None:
    """Create a topic."""
    settings = {name: value or "" for name, value in settings_of(config or ()).items()}
    admin = cluster.admin()
    count = admin.create_topic(topic, partitions, replication=replication, config=settings)
    typer.echo(f"{topic} has {count} partitions")


@app.command()
@gathers_options
def alter(
    cluster: Cluster,
    topic: Topic,
    config: Settings = None,
    partitions: Annotated[int | None, typer.Option(help="Add partitions up to this many.", min=1)] = None,
) -> None:
    """Change settings (`-c name=value`, `-c name=` for the default), or add partitions."""
    admin = cluster.admin()
    if settings := settings_of(config or ()):
        admin.alter_topic(topic, settings)
    if partitions is not None:
        admin.grow_topic(topic, partitions)
    typer.echo(f"{topic} has {admin.partitions(topic)} partitions")


@app.command()
@gathers_options
def delete(
    cluster: Cluster,
    topic: Topic,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a topic with all its records."""
    admin = cluster.admin()
    count = admin.partitions(topic)
    if not yes:
        typer.confirm(f"delete {topic} with its {count} partitions?", abort=True)
    admin.delete_topic(topic)
    typer.echo(f"{topic} is deleted")


@app.command()
@gathers_options
def apply(
    cluster: Cluster,
    file: Annotated[Path, typer.Argument(help="Topics as they should be: .toml, .json or .yaml.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Bring topics in line with a file: create, add partitions, change settings. Nothing is deleted."""
    typer.echo(str(cluster.admin().ensure_topics(file, dry_run=dry_run)))
