"""State machines in YAML files.

machines:
  - id: order
    initial: pending
    key: order_id
    states:
      pending: {}
      processing: {timeout: 1h, on_timeout: expired}
      completed: {final: true}
      expired: {error: true}
    transitions:
      - {from: pending, to: processing, trigger: start, guard: amount > 0}
      - {from: processing, to: completed, trigger: finish, action: notify}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from thalweg.cep.actions import Action
from thalweg.cep.conditions import Condition
from thalweg.cep.machine.definition import State, StateMachine, Transition
from thalweg.errors import ConfigurationError
from thalweg.streams.plan.functions import close_names
from thalweg.streams.windows import TimeSemantics
from thalweg.yaml_text import parse_yaml


class _State(msgspec.Struct, forbid_unknown_fields=True):
    final: bool = False
    error: bool = False
    timeout: str | int | None = None
    on_timeout: str | None = None
    on_entry: str | None = None
    on_exit: str | None = None


class _Transition(msgspec.Struct, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """`trigger` is the text that events have in the machine's trigger column; `when` is a condition in its place."""

    source: str | list[str]
    target: str
    trigger: str | None = None
    when: str | None = None
    guard: str | None = None
    action: str | None = None
    name: str | None = None


class _Machine(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    initial: str
    states: dict[str, _State | None]
    transitions: list[_Transition]
    key: str | list[str] = []
    trigger_column: str = "type"
    history: int = 0
    remember_final: str | int | None = None
    time: TimeSemantics = TimeSemantics.EVENT_TIME


class _File(msgspec.Struct, forbid_unknown_fields=True):
    machines: list[_Machine]


def load_machines(path: str | Path, actions: Mapping[str, Action] | None = None) -> list[StateMachine]:
    """The state machines of a YAML file.

    Args:
        actions: what states and transitions call by name.

    Raises:
        ConfigurationError: the file can't be read, or what is wrong with which machine.
        MissingExtraError: PyYAML is not installed, or Lark, which conditions need (`pip install 'thalweg[rules]'`).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"state machines {path}: {error}") from error
    return parse_machines(text, actions, str(path))


def parse_machines(
    text: str, actions: Mapping[str, Action] | None = None, where: str = "state machines"
) -> list[StateMachine]:
    """The state machines of a YAML text, which is an object with a list `machines`; see `load_machines`."""
    try:
        read = msgspec.convert(parse_yaml(text, where, what="state machines", extra="rules"), _File)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    ids = [machine.id for machine in read.machines]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{where}: state machine {twice[0]!r} comes twice")
    return [_Maker(machine, actions or {}, where).machine() for machine in read.machines]


class _Maker:
    """Makes one machine of what the file has."""

    def __init__(self, read: _Machine, actions: Mapping[str, Action], where: str) -> None:
        self.read = read
        self.actions = actions
        self.where = f"{where}: state machine {read.id!r}"

    def machine(self) -> StateMachine:
        read = self.read
        states = {name: self._state(state or _State()) for name, state in read.states.items()}
        transitions = [self._transition(transition) for transition in read.transitions]
        try:
            return StateMachine(
                id=read.id, initial=read.initial, states=states, transitions=transitions,
                key=read.key if isinstance(read.key, str) else tuple(read.key), trigger_column=read.trigger_column,
                history=read.history, remember_final=read.remember_final, time_semantics=read.time,
            )  # fmt: skip
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.where}: {error}") from error

    def _state(self, read: _State) -> State:
        return State(
            read.final, read.error, read.timeout, read.on_timeout,
            self._action(read.on_entry), self._action(read.on_exit),
        )  # fmt: skip

    def _transition(self, read: _Transition) -> Transition:
        if (read.trigger is None) == (read.when is None):
            raise ConfigurationError(f"{self.where}: the transition to {read.target!r} needs `trigger` or `when`")
        trigger = read.trigger if read.when is None else self._condition(read.when)
        guard = None if read.guard is None else self._condition(read.guard)
        return Transition(read.source, read.target, trigger, guard, self._action(read.action), read.name)

    def _condition(self, text: str) -> Condition:
        try:
            return Condition(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.where}: {error}") from error

    def _action(self, name: str | None) -> Action | None:
        if name is None:
            return None
        if name not in self.actions:
            hint = close_names(name, self.actions) or "; give it in actions={…}"
            raise ConfigurationError(f"{self.where} calls the action {name!r}, which is not known{hint}")
        return self.actions[name]
