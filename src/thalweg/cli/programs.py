"""Users' programs: run as a script would be, or stopped where they would start, to look at their plan."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.streams import App


class _Started(BaseException):
    """Stands for the moment at which a program would start its App; no `except Exception` of the program stops it."""

    def __init__(self, app: App) -> None:
        self.app = app


def run(script: Path, arguments: Sequence[str] = ()) -> None:
    """Runs the script; an App that it made and did not run is run afterwards.

    Raises:
        ConfigurationError: it made no App, or several of which none was run.
    """
    found = _apps(_execute(script, arguments))
    if not found:
        raise ConfigurationError(f"{script} has no App in a variable; make one, or call run() yourself")
    waiting = [app for app in found if app.status().state == "new"]
    if len(waiting) == len(found) > 1:
        names = ", ".join(app.name for app in found)
        raise ConfigurationError(f"{script} has several apps ({names}); call run() of one of them in the script")
    if len(waiting) == len(found):
        waiting[0].run()


def plan(script: Path, *, as_json: bool = False) -> None:
    """Prints the plan of every App that the script makes; nothing is run."""
    import json

    with _stopped_at_start() as started:
        try:
            found = _apps(_execute(script, ()))
        except _Started:
            found = []
    apps = list(dict.fromkeys([*found, *started]))
    if not apps:
        raise ConfigurationError(f"{script} has no App in a variable, and runs none")
    for app in apps:
        print(json.dumps(app.to_json(), indent=2) if as_json else app.explain())


def _execute(script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        return runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = argv, path


def _apps(variables: dict[str, Any]) -> list[App]:
    return list(dict.fromkeys(value for value in variables.values() if isinstance(value, App)))


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
