"""The command line: `thalweg run · plan · demo · topics · dlq · version`. Everything heavy is imported when needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli import (
    acls,
    alerts,
    cluster,
    consume,
    dead_letters,
    groups,
    kafka_topics,
    log_dirs,
    produce,
    programs,
    quotas,
    savepoint,
    schemas,
    topics,
)
from thalweg.demo.command import demo


class CommandLine(typer.Typer):
    """Errors made on purpose are messages, not tracebacks."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from thalweg.errors import ThalwegError

        try:
            return super().__call__(*args, **kwargs)
        except ThalwegError as error:
            typer.secho(f"thalweg: {error}", fg="red", err=True)
            sys.exit(programs.exit_code(error))


app = CommandLine(
    add_completion=False,
    help="Real-time streaming analytics for Python.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(alerts.app, name="alerts")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(schemas.app, name="schemas")
app.add_typer(cluster.app, name="cluster")
app.add_typer(savepoint.app, name="savepoint")
app.add_typer(kafka_topics.app, name="topics")
app.add_typer(groups.app, name="groups")
app.add_typer(acls.app, name="acls")
app.add_typer(quotas.app, name="quotas")
app.command("logdirs")(log_dirs.log_dirs)
app.command("lag")(groups.lag)
app.command("produce")(produce.produce)
app.command("consume")(consume.consume)
app.command("jobs")(topics.jobs)

Script = Annotated[Path, typer.Argument(help="A Python file with an App.", exists=True, dir_okay=False, readable=True)]


@app.command()
def version() -> None:
    """Print the version."""
    from thalweg import __version__

    typer.echo(f"thalweg {__version__}, Python {sys.version.split()[0]}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    script: Script,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Run so many workers, and start crashed ones again (Kafka only).")
    ] = None,
    first_slot: Annotated[
        int, typer.Option(min=0, help="The first worker's slot: hosts that share a job need slots of their own.")
    ] = 0,
) -> None:
    """Run a program: as `python script` does, and start its App where the script doesn't do so itself.

    What follows the script's name is handed to it (after `--` also options that are named like those here).
    """
    if workers is None:
        programs.run(script, context.args)
    else:
        sys.exit(programs.supervise(script, context.args, workers, first_slot))


@app.command()
def plan(
    script: Script,
    json: Annotated[bool, typer.Option("--json", help="The plan as a graph of plain data.")] = False,
) -> None:
    """Print the plan of a program's App without running it: what is vectorised, what runs per row and why."""
    programs.plan(script, as_json=json)


app.command("demo")(demo)
