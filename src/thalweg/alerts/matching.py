"""Which alerts a silence, a route or an inhibition is about: matchers over labels and fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.alerts.alert import Alert
from thalweg.errors import ConfigurationError

_FORM = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$", re.DOTALL)


@dataclass(frozen=True)
class Matcher:
    """One condition on an alert: `name` is "rule", "severity", "status", a label, or a field of the event; what an
    alert does not have is the empty text, as in Alertmanager. Regular expressions must match the whole value.

    >>> Matcher.parse('host=~"db-.*"').of({"host": "db-1"}), Matcher.parse("team!=core").of({"team": "core"})
    (True, False)
    """

    name: str
    value: str
    regex: bool = False
    negate: bool = False

    def __post_init__(self) -> None:
        if self.regex:
            try:
                re.compile(self.value)
            except re.error as error:
                raise ConfigurationError(f"matcher {self}: {error}") from error

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """Reads `name=value`, `name!=value`, `name=~regex` or `name!~regex`; the value may be quoted.

        Raises:
            ConfigurationError: none of these.
        """
        found = _FORM.match(text)
        if not found:
            raise ConfigurationError(f'matcher {text!r}: write name=value, name!=value, name=~"regex" or name!~"regex"')
        name, operator, value = found.groups()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        return cls(name, value, "~" in operator, operator.startswith("!"))

    def of(self, facts: Mapping[str, Any]) -> bool:
        """Whether it holds for these facts."""
        value = facts.get(self.name)
        text = "" if value is None else str(value)
        hit = re.fullmatch(self.value, text) is not None if self.regex else text == self.value
        return hit != self.negate

    def __str__(self) -> str:
        operator = {(False, False): "=", (False, True): "!=", (True, False): "=~", (True, True): "!~"}
        return f'{self.name}{operator[self.regex, self.negate]}"{self.value}"'


def matchers(given: Mapping[str, str] | list[str] | tuple[str, ...] | None) -> tuple[Matcher, ...]:
    """Matchers from a mapping (equality) or a list of texts."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return tuple(Matcher(name, str(value)) for name, value in given.items())
    if isinstance(given, str):
        raise ConfigurationError(f"matchers are a list of texts or a mapping, not the text {given!r}")
    return tuple(one if isinstance(one, Matcher) else Matcher.parse(one) for one in given)


def facts_of(alert: Alert) -> dict[str, Any]:
    """What matchers and groupings see of an alert: its event's fields, overridden by labels, then rule, name, severity
    and status."""
    return {
        **alert.event,
        **alert.labels,
        "rule": alert.rule,
        "name": alert.name,
        "severity": str(alert.severity),
        "status": str(alert.status),
    }


def all_of(wanted: tuple[Matcher, ...], alert: Alert) -> bool:
    """Whether an alert meets every matcher."""
    facts = facts_of(alert)
    return all(matcher.of(facts) for matcher in wanted)
