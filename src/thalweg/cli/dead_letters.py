"""`thalweg dlq list|show|edit|replay|discard`: events that could not be processed, and sending them round again."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer
from rich.console import Console
from rich.text import Text

from thalweg.cli.kafka_options import SecurityFile, cluster_or_log, security_of
from thalweg.cli.topics import DEFAULT_LOG, LogFile, open_log, show
from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.kafka.dead_letter.letters import DeadLetter
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue
    from thalweg.kafka.dead_letter.store import LetterStore

app = typer.Typer(help="Dead letters of a Kafka cluster or an embedded log.", no_args_is_help=True)

Brokers = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        "-b",
        help="host:port of a Kafka cluster, instead of the log of --log (also $THALWEG_KAFKA_BROKERS).",
    ),
]
Topic = Annotated[str, typer.Argument(help="The topic whose dead letters they are.")]
Place = Annotated[str, typer.Argument(help='Which letter: its place, such as "0:17" (see `show`).')]
ErrorClass = Annotated[str | None, typer.Option("--error", help="Only letters of this error class.")]


@app.command("list")
def list_(log: LogFile = DEFAULT_LOG, brokers: Brokers = None, security: SecurityFile = None) -> None:
    """Count the dead letters of each topic by error class and state."""
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue

    with _store(log, brokers, security) as store:
        rows = [
            (topic, error, state, letters, None if newest is None else _time(newest))
            for topic in sorted(store.topics())
            for error, state, letters, newest in DeadLetterQueue(store, topic).summary().iter_rows()
        ]
    texts = dict.fromkeys(("topic", "error", "state"), pl.String)
    columns = {**texts, "letters": pl.Int64, "newest": pl.String}
    show(pl.DataFrame(rows, columns, orient="row"), numbers=("letters",))


@app.command("show")
def show_(
    topic: Topic,
    place: Annotated[str | None, typer.Argument(help='One letter, such as "0:17": all of it.')] = None,
    log: LogFile = DEFAULT_LOG,
    brokers: Brokers = None,
    security: SecurityFile = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    error: ErrorClass = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each letter.")] = False,
) -> None:
    """Show dead letters: where from, which step refused them, why, and the payload."""
    console = Console()
    with _queue(topic, log, brokers, security) as queue:
        letters = queue.letters(error_class=error)[-limit:] if place is None else [queue.letter(place)]
    for letter in letters:
        if as_json:
            print(json.dumps(_plain(letter)))
        else:
            console.print(_text(letter, whole=place is not None), soft_wrap=True)


@app.command("edit")
def edit(
    topic: Topic,
    place: Place,
    log: LogFile = DEFAULT_LOG,
    brokers: Brokers = None,
    security: SecurityFile = None,
    value: Annotated[str | None, typer.Option("--value", help="The new payload.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with the new payload.", exists=True)] = None,
) -> None:
    """Replace a letter's payload for its replay: with --value, --file, or in your editor ($EDITOR)."""
    if value is not None and file is not None:
        raise ConfigurationError("give --value or --file, not both")
    with _queue(topic, log, brokers, security) as queue:
        letter = queue.letter(place)
        if value is not None:
            payload = value.encode()
        elif file is not None:
            payload = file.read_bytes()
        else:
            payload = _in_editor(letter.payload or b"")
            if payload == (letter.payload or b""):
                print("nothing was changed")
                return
        queue.edit(place, payload)
    print(f"{place} is edited; `thalweg dlq replay {topic} {place}` sends it")


@app.command("discard")
def discard(
    topic: Topic, place: Place, log: LogFile = DEFAULT_LOG, brokers: Brokers = None, security: SecurityFile = None
) -> None:
    """Mark a letter as one that will never be replayed."""
    with _queue(topic, log, brokers, security) as queue:
        queue.discard(place)
    print(f"{place} is discarded")


@app.command("replay")
def replay(
    topic: Topic,
    places: Annotated[list[str] | None, typer.Argument(help="Which letters; without any, all that are open.")] = None,
    log: LogFile = DEFAULT_LOG,
    brokers: Brokers = None,
    security: SecurityFile = None,
    error: ErrorClass = None,
    limit: Annotated[int | None, typer.Option(help="At most so many, the oldest first.", min=1)] = None,
    to: Annotated[str | None, typer.Option(help="Send them to this topic.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Send letters to the topic that they came from; each at most once, however often this is called."""
    with _queue(topic, log, brokers, security) as queue:
        done = queue.replay(places or None, error_class=error, limit=limit, to=to, dry_run=dry_run)
    print(f"{len(done)} letters {'would be' if dry_run else 'were'} replayed to {to or topic.removesuffix('.dlq')}")
    for place, reason in done.skipped.items():
        print(f"{place} not: {reason}")


@contextmanager
def _store(log: Path, brokers: str | None, security: Path | None) -> Iterator[LetterStore]:
    brokers = cluster_or_log(brokers, log)
    if brokers is None:
        from thalweg.connectors.sqlite.letters import EmbeddedLetters

        with open_log(log) as opened:
            yield EmbeddedLetters(opened)
        return
    from thalweg.kafka.dead_letter.store import KafkaLetters

    with closing(KafkaLetters(brokers.removeprefix("kafka://"), security=security_of(security))) as store:
        yield store


@contextmanager
def _queue(topic: str, log: Path, brokers: str | None, security: Path | None) -> Iterator[DeadLetterQueue]:
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue

    with _store(log, brokers, security) as store:
        yield DeadLetterQueue(store, topic)


def _text(letter: DeadLetter, *, whole: bool) -> Text:
    text = Text(f"{letter.id}  {letter.topic}[{letter.partition}] offset {letter.offset}  ", style="bold")
    text.append(f"{letter.error_class}", style="bold red").append(f" in {letter.operator}: ")
    text.append(letter.error_message or "")
    if letter.attempt > 1:
        text.append(f" (attempt {letter.attempt})")
    if letter.state != "open":
        text.append(f" [{letter.state}]", style="green")
    text.append("\n  ")
    most = None if whole else 500
    shown = "no payload" if letter.payload is None else letter.payload[:most].decode("utf-8", "backslashreplace")
    cut = " …" if letter.is_cut or (most and len(letter.payload or b"") > most) else ""
    text.append(shown, style="dim").append(cut)
    if whole:
        text.append(_more(letter))
    return text


def _more(letter: DeadLetter) -> str:
    lines = [f"key: {(letter.key or b'').decode('utf-8', 'backslashreplace') or '–'}"]
    if letter.timestamp is not None:
        lines.append(f"time: {_time(letter.timestamp)}")
    lines += [f"header {name}: {data.decode('utf-8', 'backslashreplace')}" for name, data in letter.headers.items()]
    details = json.loads(letter.details) if letter.details else {}
    lines += [f"{name}: {value}" for name, value in details.items()]
    return "\n" + "\n".join(lines)


def _plain(letter: DeadLetter) -> dict[str, object]:
    def readable(data: bytes | None) -> str | None:
        return None if data is None else data.decode("utf-8", "backslashreplace")

    own = {name: readable(data) for name, data in letter.headers.items()}
    names = ("id", "state", "topic", "partition", "offset", "timestamp", "operator", "error_class", "error_message")
    made: dict[str, object] = {name: getattr(letter, name) for name in names}
    details = json.loads(letter.details) if letter.details else None
    made |= {"attempt": letter.attempt, "key": readable(letter.key), "payload": readable(letter.payload)}
    return made | {"payload_size": letter.payload_size, "headers": own, "details": details}


def _in_editor(payload: bytes) -> bytes:
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal for an editor: give the new payload by --value or --file")
    with tempfile.TemporaryDirectory(prefix="thalweg-dlq-") as folder:
        file = Path(folder) / "payload"
        file.write_bytes(payload)
        editor = shlex.split(os.environ.get("EDITOR") or "vi")
        if subprocess.run([*editor, str(file)], check=False).returncode:
            return payload
        changed = file.read_bytes()
    # Editors end files with a line end, which the payload did not have.
    return changed.removesuffix(b"\n") if not payload.endswith(b"\n") else changed


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1000))
