"""Users' programs: run as a script would be, or stopped where they would start, to look at their plan."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thalweg.errors import ConfigurationError, ThalwegError
from thalweg.streams import App


class _Started(BaseException):
    """Stands for the moment at which a program would start its App; no `except Exception` of the program stops it."""

    def __init__(self, app: App) -> None:
        self.app = app


def run(script: Path, arguments: Sequence[str] = (), *, from_savepoint: Path | None = None) -> None:
    """Runs the script; an App that it made and did not run is run afterwards.

    Args:
        script: the program.
        arguments: its own.
        from_savepoint: what its App starts from instead of its last commit.

    Raises:
        ConfigurationError: it made no App, or several of which none was run.
    """
    with _noting_runs() as ran, _as_script(script, arguments), _starting_from(from_savepoint):
        found = _apps(runpy.run_path(str(script), run_name="__main__"))
        if ran:
            return
        if not found:
            raise ConfigurationError(f"{script} has no App in a variable; make one, or call run() yourself")
        if len(found) > 1:
            names = ", ".join(app.name for app in found)
            raise ConfigurationError(f"{script} has several apps ({names}); call run() of one of them in the script")
        found[0].run()


def supervise(script: Path, arguments: Sequence[str], workers: int, first_slot: int) -> int:
    """Runs the script in several processes, each a worker of its App; returns the exit code."""
    from thalweg.cli.supervisor import Supervisor, worker_command

    def log(line: str) -> None:
        print(f"thalweg: {line}", file=sys.stderr, flush=True)

    return Supervisor(worker_command(script, arguments), workers, first_slot=first_slot, log=log).run()


def exit_code(error: ThalwegError) -> int:
    """What the process ends with: a supervisor wants to know whether to start it again."""
    from thalweg.cli.supervisor import exit_code as supervised
    from thalweg.streams.worker import SLOT

    return supervised(error) if SLOT in os.environ else 1


def plan(script: Path, *, as_json: bool = False) -> None:
    """Prints the plan of every App that the script makes; nothing is run."""
    import json

    found: list[App] = []
    with _stopped_at_start() as started, _as_script(script, ()), suppress(_Started):
        found = _apps(runpy.run_path(str(script), run_name="__main__"))
    apps = list(dict.fromkeys([*found, *started]))
    if not apps:
        raise ConfigurationError(f"{script} has no App in a variable, and runs none")
    for app in apps:
        print(json.dumps(app.to_json(), indent=2) if as_json else app.explain())


def load(script: Path, arguments: Sequence[str] = ()) -> App:
    """The App of a script, which is not run.

    Raises:
        ConfigurationError: it makes none, or several.
    """
    with _stopped_at_start() as started, _as_script(script, arguments), suppress(_Started):
        started += _apps(runpy.run_path(str(script), run_name="__main__"))
    apps = list(dict.fromkeys(started))
    if len(apps) != 1:
        names = ", ".join(app.name for app in apps) or "none"
        raise ConfigurationError(f"{script} should have one App; it has {names}")
    return apps[0]


@contextmanager
def _as_script(script: Path, arguments: Sequence[str]) -> Iterator[None]:
    """`sys.argv` and `sys.path` as `python script …` would have them."""
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


def _apps(variables: dict[str, Any]) -> list[App]:
    return list(dict.fromkeys(value for value in variables.values() if isinstance(value, App)))


@contextmanager
def _starting_from(savepoint: Path | None) -> Iterator[None]:
    """Meanwhile `App.run` starts from a savepoint, where the program doesn't name one itself."""
    original = App.run

    def run(self: App, **settings: Any) -> None:
        original(self, **{"from_savepoint": savepoint, **settings})

    if savepoint is not None:
        App.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        App.run = original  # type: ignore[method-assign]


@contextmanager
def _noting_runs() -> Iterator[list[App]]:
    """The apps that the program runs itself meanwhile, whether a variable holds them or not."""
    ran: list[App] = []
    original = App.run

    def run(self: App, **settings: Any) -> None:
        ran.append(self)
        original(self, **settings)

    App.run = run  # type: ignore[method-assign]
    try:
        yield ran
    finally:
        App.run = original  # type: ignore[method-assign]


@contextmanager
def _stopped_at_start() -> Iterator[list[App]]:
    """Meanwhile `App.run` ends the program instead of starting the job."""
    started: list[App] = []
    original = App.run

    def stop(self: App, **settings: Any) -> None:
        started.append(self)
        raise _Started(self)

    App.run = stop  # type: ignore[method-assign]
    try:
        yield started
    finally:
        App.run = original  # type: ignore[method-assign]
