"""`thalweg cluster up|down|status`: a Kafka cluster on this machine, without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from thalweg.cli.topics import show

app = typer.Typer(help="A Kafka cluster of several brokers on this machine, without Docker.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="Where the brokers keep their data, logs and settings.")]
DEFAULT_FOLDER = Path(".thalweg/cluster")


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    brokers: Annotated[int | None, typer.Option(help="How many; 3 where not given.", min=1, max=9)] = None,
    heap: Annotated[str, typer.Option(help="Java heap of each broker.")] = "512m",
) -> None:
    """Start the brokers, or those that have ended, in the background (Apache Kafka from Maven Central)."""
    from thalweg.kafka.kept_cluster import KeptCluster

    cluster = KeptCluster(folder, brokers=brokers, heap=heap).up()
    print(f"{cluster.count} brokers run; data in {cluster.folder}")
    print(cluster.bootstrap)


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    purge: Annotated[bool, typer.Option("--purge", help="Remove their data too.")] = False,
) -> None:
    """End the brokers; their data stays for the next `up`."""
    from thalweg.kafka.kept_cluster import KeptCluster

    ended = KeptCluster(folder).down(purge=purge)
    print(f"{ended} brokers have ended" + ("; their data is gone" if purge else ""))


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Which brokers run, and whether all replicas are in sync; exit code 1 where something is amiss."""
    from thalweg.kafka.kept_cluster import KeptCluster

    found = KeptCluster(folder).status()
    rows = [(b.index, b.address, "running" if b.pid else "ended", b.pid) for b in found.brokers]
    columns = {"broker": pl.String, "address": pl.String, "state": pl.String, "process": pl.String}
    texts = [tuple(None if part is None else str(part) for part in row) for row in rows]
    show(pl.DataFrame(texts, columns, orient="row"), numbers=("broker", "process"))
    if found.partitions is None:
        print("the cluster does not answer")
    else:
        print(f"{found.topics} topics; of {found.partitions} partitions {found.in_sync} have all replicas in sync")
    if found.running < len(found.brokers) or found.in_sync != found.partitions:
        raise typer.Exit(1)
