"""Options that several commands share, as one argument: a dataclass whose fields are the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints


def gathers_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer takes it: each parameter that is a dataclass is replaced by its fields.

    The first such parameter's come last in the help. They are handed over by name: `command(brokers=…, as_json=…)`
    calls it from Python too.

    >>> @app.command()                                                                   # doctest: +SKIP
    ... @gathers_options
    ... def describe(topic: Topic, cluster: Cluster) -> None: ...
    """
    own = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {n: p.annotation for n, p in own.parameters.items() if is_dataclass(p.annotation)}
    shared = {name: _options(kind) for name, kind in groups.items()}

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {name: groups[name](**{o.name: given.pop(o.name) for o in shared[name]}) for name in groups}
        command(**given, **made)

    kept = [p.replace(kind=Parameter.KEYWORD_ONLY) for name, p in own.parameters.items() if name not in groups]
    parameters = [*kept, *(option for name in reversed(groups) for option in shared[name])]
    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _options(kind: Any) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(kind)
    ]
