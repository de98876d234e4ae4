"""`thalweg dlq list|show|edit|replay|discard`: events that could not be processed, and sending them round again."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from thalweg.cli.kafka_options import AsJson, LogOrBrokers, SecurityFile, cluster_or_log, print_rows, security_of
from thalweg.cli.options import gathers_options
from thalweg.cli.topics import DEFAULT_LOG, LogFile, open_log
from thalweg.errors import ConfigurationError
from thalweg.kafka.dead_letter.letters import DEAD_SUFFIX, STATES

if TYPE_CHECKING:
    from thalweg.kafka.dead_letter.letters import DeadLetter
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue
    from thalweg.kafka.dead_letter.store import LetterStore

app = typer.Typer(help="Dead letters of a Kafka cluster or an embedded log.", no_args_is_help=True)

Topic = Annotated[str, typer.Argument(help="The topic whose dead letters they are.")]
Place = Annotated[str, typer.Argument(help='Which letter: its place, such as "0:17" (see `show`).')]
Places = Annotated[list[str], typer.Argument(help='Which letters: their places, such as "0:17" (see `show`).')]
ErrorClass = Annotated[str | None, typer.Option("--error", help="Only letters of this error class.")]


@dataclass(frozen=True, slots=True)
class Letters:
    """Where the dead letters are: on a cluster, or in an embedded log."""

    log: LogFile = DEFAULT_LOG
    brokers: LogOrBrokers = None
    security: SecurityFile = None

    @contextmanager
    def store(self) -> Iterator[LetterStore]:
        brokers = cluster_or_log(self.brokers, self.log)
        if brokers is None:
            from thalweg.connectors.sqlite.letters import EmbeddedLetters

            with open_log(self.log) as opened:
                yield EmbeddedLetters(opened)
            return
        from thalweg.kafka.dead_letter.store import KafkaLetters

        with closing(KafkaLetters(brokers.removeprefix("kafka://"), security=security_of(self.security))) as store:
            yield store

    @contextmanager
    def queue(self, topic: str) -> Iterator[DeadLetterQueue]:
        from thalweg.kafka.dead_letter.queue import DeadLetterQueue

        with self.store() as store:
            yield DeadLetterQueue(store, topic)


@app.command("list")
@gathers_options
def list_(where: Letters, as_json: AsJson = False) -> None:
    """Count the dead letters of each topic by error class and state."""
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue

    with where.store() as store:
        rows = [
            {"topic": topic, "error": error, "state": state, "letters": letters, "newest": newest}
            for topic in sorted(store.topics())
            for error, state, letters, newest in DeadLetterQueue(store, topic).summary().iter_rows()
        ]
    if not as_json:
        rows = [{**row, "newest": None if row["newest"] is None else _time(row["newest"])} for row in rows]
    print_rows(rows, {"topic": str, "error": str, "state": str, "letters": int, "newest": str}, as_json=as_json)


@app.command("show")
@gathers_options
def show(
    where: Letters,
    topic: Topic,
    place: Annotated[str | None, typer.Argument(help='One letter, such as "0:17": all of it.')] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 20,
    error: ErrorClass = None,
    state: Annotated[str | None, typer.Option(help="Only open, edited, replayed or discarded ones.")] = None,
    payload: Annotated[bool, typer.Option("--payload", help="Of one letter: its payload, byte for byte.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show dead letters: where from, which step refused them, why, and the payload."""
    if payload and (place is None or as_json):
        raise ConfigurationError(
            "--payload is for one letter, and not for JSON: `thalweg dlq show TOPIC 0:17 --payload`"
        )
    if state not in (None, *STATES):
        raise ConfigurationError(f"--state {state}: use one of {', '.join(STATES)}")
    with where.queue(topic) as queue:
        letters = [queue.letter(place)] if place else queue.letters(error_class=error, state=state)[-limit:]
    if payload:
        typer.echo(letters[0].payload or b"", nl=False)
        return
    console = Console()
    for letter in letters:
        if as_json:
            print(json.dumps(_plain(letter)))
        else:
            console.print(_text(letter, whole=place is not None), soft_wrap=True)
    if not letters:
        typer.echo("no such letters", err=True)


@app.command("edit")
@gathers_options
def edit(
    where: Letters,
    topic: Topic,
    place: Place,
    value: Annotated[str | None, typer.Option("--value", help="The new payload.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with the new payload.", exists=True)] = None,
) -> None:
    """Replace a letter's payload for its replay: with --value, --file, or in your editor ($EDITOR)."""
    if value is not None and file is not None:
        raise ConfigurationError("give --value or --file, not both")
    with where.queue(topic) as queue:
        letter = queue.letter(place)
        if value is not None:
            payload = value.encode()
        elif file is not None:
            payload = file.read_bytes()
        else:
            payload = _in_editor(letter)
            if payload == (letter.payload or b""):
                print("nothing was changed")
                return
        queue.edit(place, payload)
    print(f"{place} is edited; `thalweg dlq replay {topic} {place}` sends it")


@app.command("discard")
@gathers_options
def discard(where: Letters, topic: Topic, places: Places) -> None:
    """Mark letters as ones that will never be replayed."""
    with where.queue(topic) as queue:
        queue.discard(*places)
    print(f"{_letters(len(places), '{} is', '{} are')} discarded")


@app.command("replay")
@gathers_options
def replay(
    where: Letters,
    topic: Topic,
    places: Annotated[list[str] | None, typer.Argument(help="Which letters; without any, all that are open.")] = None,
    error: ErrorClass = None,
    limit: Annotated[int | None, typer.Option(help="At most so many, the oldest first.", min=1)] = None,
    to: Annotated[str | None, typer.Option(help="Send them to this topic.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send letters to the topic that they came from; each at most once, however often this is called."""
    with where.queue(topic) as queue:
        done = queue.replay(places or None, error_class=error, limit=limit, to=to, dry_run=dry_run)
    if as_json:
        print(json.dumps({"replayed": done.letters, "skipped": dict(done.skipped), "dry_run": dry_run}))
        return
    verbs = ("{} would be", "{} would be") if dry_run else ("{} was", "{} were")
    print(f"{_letters(len(done), *verbs)} replayed to {to or topic.removesuffix(DEAD_SUFFIX)}")
    for place, reason in done.skipped.items():
        print(f"{place} not: {reason}")


def _letters(count: int, one: str, many: str) -> str:
    return one.format("1 letter") if count == 1 else many.format(f"{count} letters")


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
    names = ("id", "state", "topic", "partition", "offset", "timestamp", "operator", "error_class", "error_message")
    made: dict[str, object] = {name: getattr(letter, name) for name in (*names, "attempt", "payload_size")}
    made["details"] = json.loads(letter.details) if letter.details else None
    made["headers"] = {name: data.decode("utf-8", "backslashreplace") for name, data in letter.headers.items()}
    return made | _readable("key", letter.key) | _readable("payload", letter.payload)


def _readable(name: str, data: bytes | None) -> dict[str, str | None]:
    """Bytes for JSON: as text where they are text, else in base64 beside it."""
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}_base64": base64.b64encode(data or b"").decode()}


def _in_editor(letter: DeadLetter) -> bytes:
    payload = letter.payload or b""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"the payload of {letter.id} is not text, which an editor would damage: write it to a file with "
            "`thalweg dlq show … --payload`, and give the mended one by --file"
        ) from None
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal for an editor: give the new payload by --value or --file")
    with tempfile.TemporaryDirectory(prefix="thalweg-dlq-") as folder:
        file = Path(folder) / "payload"
        file.write_bytes(payload)
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            ended = subprocess.run([*editor, str(file)], check=False).returncode
        except OSError as error:
            raise ConfigurationError(f"the editor {editor[0]!r} can't be started: {error}; set $EDITOR") from error
        if ended:
            raise ConfigurationError(f"the editor {editor[0]!r} ended with {ended}: nothing was changed")
        changed = file.read_bytes()
    # Editors end files with a line end, which the payload did not have.
    return changed.removesuffix(b"\n") if not payload.endswith(b"\n") else changed


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1000))
