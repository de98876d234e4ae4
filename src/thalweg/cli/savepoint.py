"""`thalweg savepoint create|inspect|resume`: a job's state in a file, to upgrade the program and go on."""

from __future__ import annotations

import json as jsonlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from thalweg.cli import programs
from thalweg.cli.topics import show
from thalweg.streams.savepoints import Savepoint

app = typer.Typer(help="A job's state and positions in a file.", no_args_is_help=True)

Script = Annotated[Path, typer.Argument(help="A Python file with an App.", exists=True, dir_okay=False, readable=True)]
File = Annotated[Path, typer.Argument(help="The savepoint.", exists=True, dir_okay=False, readable=True)]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def create(
    context: typer.Context, script: Script, path: Annotated[Path, typer.Argument(help="The file to write.")]
) -> None:
    """Write a savepoint of a program's job, which must be stopped: one that still runs is fenced off by this.

    The job is started for one commit, at which it stops again; nothing is read. Of a job on several workers all must
    have ended; rows that are under way between them are taken in first. What follows the names is handed to the
    program.
    """
    saved = programs.load(script, context.args).savepoint(path)
    size = sum(operator.bytes for operator in saved.operators)
    typer.echo(f"{path}: job {saved.job}, {len(saved.operators)} steps with state, {size} bytes")


@app.command()
def inspect(path: File, json: Annotated[bool, typer.Option("--json", help="As plain data.")] = False) -> None:
    """Show what a savepoint holds: the steps with state, what their state depends on, and the positions."""
    saved = Savepoint.read(path)
    facts = facts_of(saved)
    if json:
        typer.echo(jsonlib.dumps(facts, indent=2))
        return
    typer.echo(f"job {saved.job}, written {facts['created']} by Thalweg {saved.program}")
    steps = [{"step": o["id"], "state of": _signature(o["signature"]), "bytes": o["bytes"]} for o in facts["operators"]]
    show(pl.DataFrame(steps, schema={"step": pl.String, "state of": pl.String, "bytes": pl.Int64}), numbers=("bytes",))
    show(pl.DataFrame(facts["positions"], infer_schema_length=None), numbers=("position",))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(
    context: typer.Context,
    script: Script,
    path: File,
    workers: Annotated[int, typer.Option(min=1, help="How many processes to run the job in afterwards.")] = 1,
) -> None:
    """Run a program from a savepoint instead of from its last commit.

    Refused where the savepoint does not fit the program. The first commit makes it the job's own; what the job has
    committed since it was written is then gone, and comes again. What follows the names is handed to the program.
    """
    if workers == 1:
        programs.run(script, context.args, from_savepoint=path)
        return
    programs.load(script, context.args).restore(path)
    raise typer.Exit(programs.supervise(script, context.args, workers, first_slot=0))


def facts_of(saved: Savepoint) -> dict[str, Any]:
    """A savepoint as plain data, without the state itself."""
    return {
        "job": saved.job,
        "created": datetime.fromtimestamp(saved.created / 1000, UTC).isoformat(timespec="seconds"),
        "program": saved.program,
        "operators": [{"id": o.id, "signature": o.signature, "bytes": o.bytes} for o in saved.operators],
        "positions": [
            {"topic": topic, "partition": partition, "position": epoch.position}
            for (topic, partition), epoch in sorted(saved.epochs.items())
        ],
    }


def _signature(signature: dict[str, Any]) -> str:
    rest = (f"{k}: {', '.join(v) if isinstance(v, list) else v}" for k, v in signature.items() if k != "kind" and v)
    return " · ".join([str(signature.get("kind", "?")), *rest])
