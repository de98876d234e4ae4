"""From an alert to its channels: a tree of routes, the first that matches, as in Alertmanager."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.alerts.alert import Alert
from thalweg.alerts.escalation import EscalationPolicy
from thalweg.alerts.matching import Matcher, facts_of, matchers
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class Route:
    """Which channels get which alerts, and how they are gathered into messages.

    An alert goes to the first of `routes` that matches it, and so on downwards; where none matches, this route has it.
    What a route leaves out it takes from the one above.

    Args:
        match: a mapping of labels (or "rule", "severity", fields) to values, or texts such as `host=~"db-.*"`.
        channels: names of channels; `on-call:<schedule>` is whoever is on call.
        group_by: alerts with equal values of these go into one message; None: each alert has a message of its own.
        group_wait: how long the first alert of a group waits for others.
        group_interval: the least time between two messages of a group.
        repeat_interval: tell again after so long while nobody has acknowledged; None: never.
        escalation: for alerts whose rule has no policy of its own.
        also: go on with the routes after this one, too (Alertmanager's `continue`).
    """

    match: Mapping[str, str] | Sequence[str] | None = None
    channels: Sequence[str] | None = None
    routes: Sequence[Route] = ()
    group_by: Sequence[str] | None = None
    group_wait: Duration = "30s"
    group_interval: Duration = "5m"
    repeat_interval: Duration | None = None
    escalation: EscalationPolicy | None = None
    also: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matchers", matchers(self.match))  # type: ignore[arg-type]
        for name in ("channels", "group_by"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"route: {name} is one text; give a list of them")
        for name in ("group_wait", "group_interval", "repeat_interval"):
            if getattr(self, name) is not None:
                milliseconds(getattr(self, name), name=f"{name} of a route")

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        found: tuple[Matcher, ...] = self._matchers  # type: ignore[attr-defined]
        return found

    def all_channels(self) -> Iterator[str]:
        """Every channel named in the tree."""
        yield from self.channels or ()
        yield from self.escalation.channels if self.escalation else ()
        for route in self.routes:
            yield from route.all_channels()


@dataclass(frozen=True)
class Target:
    """Where an alert goes by one route."""

    channels: tuple[str, ...]
    group: str | None
    """What it is grouped by; None: not at all."""
    wait: int
    interval: int
    repeat: int | None
    escalation: EscalationPolicy | None
    path: str
    """For people: which route it was."""


def targets(root: Route, alert: Alert) -> list[Target]:
    """The targets of an alert; never none: the root takes what no other route does.

    Raises:
        ConfigurationError: the root has no channels (see `check`).
    """
    return list(_walk(root, facts_of(alert), _Inherited(root), "root"))


class _Inherited:
    """The settings in force at a route."""

    def __init__(self, route: Route, above: _Inherited | None = None) -> None:
        self.channels: Sequence[str] | None = route.channels
        self.group_by: Sequence[str] | None = route.group_by
        self.repeat: Duration | None = route.repeat_interval
        self.escalation: EscalationPolicy | None = route.escalation
        if above is not None:
            self.channels = above.channels if self.channels is None else self.channels
            self.group_by = above.group_by if self.group_by is None else self.group_by
            self.repeat = above.repeat if self.repeat is None else self.repeat
            self.escalation = above.escalation if self.escalation is None else self.escalation


def _walk(route: Route, facts: Mapping[str, Any], inherited: _Inherited, path: str) -> Iterator[Target]:
    matched = False
    for number, child in enumerate(route.routes):
        if not all(matcher.of(facts) for matcher in child.matchers):
            continue
        matched = True
        shown = ", ".join(map(str, child.matchers)) or f"#{number + 1}"
        yield from _walk(child, facts, _Inherited(child, inherited), f"{path} › {shown}")
        if not child.also:
            break
    if matched:
        return
    if inherited.channels is None:
        raise ConfigurationError("the root route names no channels: every alert must have somewhere to go")
    group = None
    if inherited.group_by is not None:
        said = repr((path, [(name, str(facts.get(name, ""))) for name in inherited.group_by]))
        group = hashlib.sha256(said.encode()).hexdigest()[:24]
    yield Target(
        channels=tuple(inherited.channels),
        group=group,
        wait=milliseconds(route.group_wait),
        interval=milliseconds(route.group_interval),
        repeat=None if inherited.repeat is None else milliseconds(inherited.repeat),
        escalation=inherited.escalation,
        path=path,
    )
