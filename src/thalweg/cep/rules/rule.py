"""What a rule is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from thalweg.cep.actions import Action
from thalweg.cep.conditions import Condition
from thalweg.errors import ConfigurationError


@dataclass(frozen=True, eq=False)
class Rule:
    """A condition on an event, and what to do where it holds.

    Args:
        id: unique among the rules of an engine.
        name: for people; the id where not given.
        condition: an expression, a lambda over the event, any callable, or a text (see `Condition`).
        action: called with the event, or with the event and the rule where it takes two; plain or async; one or
            several.
        priority: rules with a higher one come first; rules of the same one in the order in which they were added.
        enabled: False: as if it were not there.
        stop: where it matches, no rule after it is tried on the event.
        group: of the rules of a group only the first that matches fires.
        tags: for filtering and reports.
        description: for people.
        version: counts the changes of the rule; the engine sets it.

    Raises:
        ConfigurationError: no id or condition, or an action that can't be called.
        ConditionError: the condition can't be read.
    """

    id: str
    name: str = ""
    priority: int = 0
    enabled: bool = True
    condition: Any = None
    action: Action | Sequence[Action] | None = None
    stop: bool = False
    group: str | None = None
    tags: Sequence[str] = field(default=())
    description: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigurationError("a rule needs an id")
        if self.condition is None:
            raise ConfigurationError(f"rule {self.id!r} has no condition")
        if isinstance(self.condition, str):
            object.__setattr__(self, "condition", Condition(self.condition))
        if not self.name:
            object.__setattr__(self, "name", self.id)
        for action in self.actions:
            if not callable(action):
                raise ConfigurationError(f"rule {self.id!r}: {action!r} is no action: it can't be called")

    @property
    def actions(self) -> tuple[Action, ...]:
        """Its actions, in order."""
        if self.action is None:
            return ()
        return (self.action,) if callable(self.action) else tuple(self.action)

    def same_as(self, other: Rule) -> bool:
        """Whether it is the same rule in everything but its version."""
        mine, others = self._content(), other._content()
        return all(a is b or (type(a) in _PLAIN and a == b) for a, b in zip(mine, others, strict=True))

    def _content(self) -> list[Any]:
        names = [f.name for f in fields(self) if f.name not in ("version", "action", "tags")]
        return [*(getattr(self, name) for name in names), tuple(self.tags), self.actions]


_PLAIN = (str, int, bool, tuple, Condition)


def takes_rule(action: Action) -> bool:
    """Whether an action takes the event and the rule."""
    try:
        parameters = inspect.signature(action).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(places) == 2
