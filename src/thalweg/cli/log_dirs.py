"""`thalweg logdirs`: what the brokers of a Kafka cluster keep on which disk."""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.kafka_options import AsJson, Cluster, print_rows
from thalweg.cli.options import gathers_options
from thalweg.errors import ConnectorError


@gathers_options
def log_dirs(
    cluster: Cluster,
    topics: Annotated[list[str] | None, typer.Argument(help="Partition by partition of these topics.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the folders of each broker and the bytes in them, or (topics named) the bytes of each partition."""
    admin = cluster.admin()
    found = admin.log_dirs()
    kept = {topic for each in found for topic, _ in each.partitions}
    if missing := set(topics or ()) - kept:
        raise ConnectorError(f"there is no topic {', '.join(map(repr, sorted(missing)))}")
    if not topics:
        rows = [
            {"broker": each.broker, "folder": each.path, "partitions": len(each.partitions), "bytes": each.bytes}
            for each in found
        ]
        print_rows(rows, {"broker": int, "folder": str, "partitions": int, "bytes": int}, as_json=as_json)
        return
    parts = [
        {"topic": topic, "partition": partition, "broker": each.broker, "folder": each.path, "bytes": size}
        for each in found
        for (topic, partition), size in each.partitions.items()
        if topic in topics
    ]
    parts.sort(key=lambda part: (part["topic"], part["partition"], part["broker"]))
    columns = {"topic": str, "partition": int, "broker": int, "folder": str, "bytes": int}
    print_rows(parts, columns, as_json=as_json)
