"""`thalweg dlq list|show`: the events of an embedded log that could not be processed, and why."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.text import Text

from thalweg.cli.topics import DEFAULT_LOG, LogFile, open_log, show
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConnectorError
from thalweg.streams.engine.job_outputs import DEAD_LETTER_SUFFIX as SUFFIX

app = typer.Typer(help="Dead letters of an embedded log.", no_args_is_help=True)


@app.command("list")
def list_(log: LogFile = DEFAULT_LOG) -> None:
    """Count the dead letters of each topic by error class."""
    with open_log(log) as opened:
        names = [name for name in opened.topics()["topic"] if name.endswith(SUFFIX)]
        rows = [
            {"topic": name.removesuffix(SUFFIX), "error": error, "letters": letters}
            for name in names
            for error, letters in _headers(opened, name)["error_class"].value_counts(sort=True).iter_rows()
        ]
    show(pl.DataFrame(rows, schema={"topic": pl.String, "error": pl.String, "letters": pl.Int64}), numbers=("letters",))


@app.command("show")
def show_(
    topic: Annotated[str, typer.Argument(help="The topic whose dead letters to show.")],
    log: LogFile = DEFAULT_LOG,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
) -> None:
    """Show dead letters: where from, which step refused them, why, and the payload."""
    console = Console()
    with open_log(log) as opened:
        letters = _headers(opened, topic.removesuffix(SUFFIX) + SUFFIX).tail(limit)
        for letter in letters.iter_rows(named=True):
            console.print(_letter(letter), soft_wrap=True)


def _letter(letter: dict[str, Any]) -> Text:
    text = Text(f"{letter['topic']}[{letter['partition']}] offset {letter['offset']}  ", style="bold")
    text.append(f"{letter['error_class']}", style="bold red").append(f" in {letter['operator']}: ")
    text.append(letter["error_message"] or "").append("\n  ")
    payload = letter["value"]
    shown = "no payload" if payload is None else payload[:500].decode("utf-8", "backslashreplace")
    return text.append(shown, style="dim").append(" …" if payload is not None and len(payload) > 500 else "")


_COLUMNS = ("topic", "partition", "offset", "operator", "error_class", "error_message")


def _headers(log: EmbeddedLog, topic: str) -> pl.DataFrame:
    """The letters with the headers that say where each came from, as columns of text."""
    if topic not in log.topics()["topic"]:
        raise ConnectorError(f"no dead letters of {topic.removesuffix(SUFFIX)!r} in {log.path}")
    rows = []
    for record in log.records(topic).iter_rows(named=True):
        headers = {header["key"]: header["value"].decode("utf-8", "replace") for header in record["headers"] or ()}
        rows.append({**{name: headers.get(name) for name in _COLUMNS}, "value": record["value"]})
    return pl.DataFrame(rows, schema={**dict.fromkeys(_COLUMNS, pl.String), "value": pl.Binary})
