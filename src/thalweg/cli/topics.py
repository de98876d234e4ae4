"""`thalweg topics`, `thalweg jobs`: what an embedded log holds, and how far its jobs have come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConnectorError

LogFile = Annotated[Path, typer.Option("--log", help="The file of the embedded log.")]
DEFAULT_LOG = Path("data.db")


def open_log(path: Path) -> EmbeddedLog:
    """An existing log: looking at one must not make one.

    Raises:
        ConnectorError: no such file.
    """
    if not path.exists():
        raise ConnectorError(f"no embedded log at {path}; name one with --log")
    return EmbeddedLog(path)


def topics(log: LogFile = DEFAULT_LOG) -> None:
    """List the topics of an embedded log."""
    with open_log(log) as opened:
        show(opened.topics(), numbers=("partitions", "events", "bytes"))


def jobs(log: LogFile = DEFAULT_LOG) -> None:
    """List the jobs of an embedded log: committed position and lag per source partition."""
    with open_log(log) as opened:
        found = opened.jobs().with_columns(pl.col("committed").map_elements(_time, return_dtype=pl.String))
        show(found, numbers=("partition", "position", "lag", "epoch"))


def show(frame: pl.DataFrame, numbers: tuple[str, ...]) -> None:
    """A frame as a table; plain enough for a pipe."""
    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in frame.columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*("–" if value is None else f"{value:,}" if _count(value) else str(value) for value in row))
    console.print(table, highlight=False)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1000))
