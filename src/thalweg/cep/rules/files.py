"""Rules in YAML files: read, checked, watched."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from thalweg.cep.actions import Action
from thalweg.cep.rules.rule import Rule
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.plan.functions import close_names
from thalweg.yaml_text import parse_yaml

logger = logging.getLogger(__name__)


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as a file has it: `when` is its condition, `action` names what to call."""

    id: str
    when: str
    name: str = ""
    priority: int = 0
    enabled: bool = True
    action: str | list[str] | None = None
    stop: bool = False
    group: str | None = None
    tags: list[str] = []
    description: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[_Rule]


def read_rules(path: Path, actions: Mapping[str, Action]) -> list[Rule]:
    """The rules of a file.

    Raises:
        ConfigurationError: the file can't be read, or what is wrong with which rule.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"rules {path}: {error}") from error
    return parse_rules(text, actions, str(path))


def parse_rules(text: str, actions: Mapping[str, Action], where: str = "rules") -> list[Rule]:
    """The rules of a YAML text, which is an object with a list `rules` (see docs/rules.md)."""
    try:
        read = msgspec.convert(parse_yaml(text, where, what="rules", extra="rules"), _File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    return [_rule(rule, actions, where) for rule in read.rules]


def _rule(rule: _Rule, actions: Mapping[str, Action], where: str) -> Rule:
    names = [rule.action] if isinstance(rule.action, str) else rule.action or []
    for name in names:
        if name not in actions:
            hint = close_names(name, actions) or "; give it to RuleEngine(actions={…})"
            raise ConfigurationError(f"{where}: rule {rule.id!r} calls the action {name!r}, which is not known{hint}")
    called = [actions[name] for name in names]
    try:
        return Rule(
            id=rule.id, name=rule.name, priority=rule.priority, enabled=rule.enabled, condition=rule.when,
            action=called or None, stop=rule.stop, group=rule.group, tags=tuple(rule.tags),
            description=rule.description,
        )  # fmt: skip
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: rule {rule.id!r}: {error}") from error


class Watched:
    """A file that is loaded again when it has changed."""

    def __init__(self, path: Path, every: float) -> None:
        self.path = path
        self.every = every
        self._next = time.monotonic() + every
        self._seen = _state(path)

    def refresh(self, load: Callable[[Path], None]) -> None:
        """Loads the file if it is time and it has changed; what is wrong with it is logged."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.every
        state = _state(self.path)
        if state == self._seen or state is None:
            return
        self._seen = state
        try:
            load(self.path)
            logger.info("loaded the changed rules of %s", self.path)
        except (ConfigurationError, PlanError) as error:
            logger.error("the rules stay as they were: %s", error)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
