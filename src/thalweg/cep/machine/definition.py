"""What a state machine is: states, transitions, and whose instances they are. Checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from thalweg.cep.actions import Action, Retry
from thalweg.cep.machine.checks import check
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.windows import TimeSemantics

if TYPE_CHECKING:
    import polars as pl

    from thalweg.cep.machine.node import MachineNode
    from thalweg.cep.machine.replay import Events, Replay

PREVIOUS = "@previous"
"""As a transition's target: the state that the instance was in before this one."""

ANY = "*"
"""As a transition's source: every state that is not final."""


@dataclass(frozen=True)
class State:
    """A state.

    Args:
        final: an instance that gets here is done, and is forgotten.
        error: reaching it is a failure: results say "error". Without a way out it is final as well.
        timeout: how long an instance stays at most; then it goes to `on_timeout`. An event at that very moment comes
            too late.
        on_timeout: the state that it goes to then.
        on_entry, on_exit: actions, plain or async, called with the change (see `StateMachine`) that enters or leaves.
    """

    final: bool = False
    error: bool = False
    timeout: Duration | None = None
    on_timeout: str | None = None
    on_entry: Action | None = None
    on_exit: Action | None = None

    @property
    def timeout_ms(self) -> int | None:
        """The timeout in ms."""
        return None if self.timeout is None else milliseconds(self.timeout, name="timeout", minimum=1)


@dataclass(frozen=True)
class Transition:
    """From one state to another, because of an event.

    Args:
        source: a state, several, or "*" for every state that is not final.
        target: a state, or `PREVIOUS`.
        trigger: the text that the event has in the machine's `trigger_column`; or a condition, as for `filter`.
        guard: a condition on the event that must hold as well; with two arguments
            (`lambda e, i: i.visits("retry") < 3`) it also gets the `Instance`.
        action: called with the change.
        name: what results call the trigger, where that is a condition.
    """

    source: str | Sequence[str]
    target: str
    trigger: Any
    guard: Any = None
    action: Action | None = None
    name: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The states that it may leave."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)

    @property
    def label(self) -> str:
        """What results and diagrams call the trigger."""
        if self.name is not None:
            return self.name
        return self.trigger if isinstance(self.trigger, str) else f"to {self.target}"


@dataclass(frozen=True, eq=False)
class StateMachine:
    """A state machine with an instance for each key. `stream.track(machine)` gives a row for each change of state.

    An instance begins in the initial state with the first event of its key that is a trigger, whichever; it ends in a
    final state. Transitions are tried in the order given; the first whose trigger and guard hold is taken. A trigger
    that no transition takes in the instance's state leaves the state as it is and comes out by port "invalid".

    Args:
        id: names the machine in results.
        initial: where instances begin.
        key: the column(s) that tell instances apart; in a keyed stream they may be left out.
        states: by name.
        transitions: in the order in which they are tried.
        trigger_column: where an event's trigger stands.
        history: how many of the states that an instance has left results show, as `path`.
        remember_final: how long an ended instance is remembered, so that further events of its key are invalid; without
            it they begin a new one.
        time_semantics: event time (by the watermark), or processing time (by the clock, at once).
        retry: of actions that fail; what fails for good is a dead letter.

    Raises:
        ConfigurationError: names that don't exist, states that can't be reached or left, transitions never taken.

    >>> order = StateMachine(
    ...     id="order", initial="pending", key="order_id",
    ...     states={"pending": State(), "done": State(final=True)},
    ...     transitions=[Transition("pending", "done", trigger="finish")],
    ... )
    >>> replay = order.replay([{"ts": 5, "order_id": 1, "type": "finish"}])
    >>> replay.changes.select("order_id", "from_state", "to_state").rows()
    [(1, 'pending', 'done')]
    """  # fmt: skip

    id: str
    initial: str
    states: Mapping[str, State]
    transitions: Sequence[Transition]
    key: str | Sequence[str] = ()
    trigger_column: str = "type"
    history: int = 0
    remember_final: Duration | None = None
    time_semantics: TimeSemantics = TimeSemantics.EVENT_TIME
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        check(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def remember_ms(self) -> int:
        """How long ended instances are remembered, ms; 0: not at all."""
        return 0 if self.remember_final is None else milliseconds(self.remember_final, name="remember_final")

    def is_final(self, name: str) -> bool:
        """Whether instances end in this state: a final one, or an error without a way out."""
        state = self.states[name]
        if state.final:
            return True
        left = state.timeout is not None or any(name in transition.sources for transition in self.transitions)
        return state.error and not left

    def sources_of(self, transition: Transition) -> tuple[str, ...]:
        """The states that a transition leaves, "*" spelled out."""
        if transition.sources == (ANY,):
            return tuple(name for name in self.states if not self.is_final(name))
        return transition.sources

    def status_of(self, name: str) -> str:
        """ "error", "final" or "active"."""
        if self.states[name].error:
            return "error"
        return "final" if self.is_final(name) else "active"

    def diagram(self, format: Literal["mermaid", "svg"] = "mermaid") -> str:
        """The machine as a Mermaid state diagram, or as an SVG picture (timeouts are dotted)."""
        from thalweg.cep.machine.diagram import diagram

        return diagram(self, format)

    def replay(self, events: Events, *, timestamp: str = "ts", until: int | None = None) -> Replay:
        """What recorded events would have done: a dry run, which calls no actions (see `Replay`)."""
        from thalweg.cep.machine.replay import replay

        return replay(self, events, timestamp=timestamp, until=until)

    def result_schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of the changes over events with these columns."""
        from thalweg.cep.machine.results import result_schema

        return result_schema(self, self.keys, events)

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> MachineNode:
        """The plan node of `stream.track(machine)`."""
        from thalweg.cep.machine.node import MachineNode
        from thalweg.streams.plan.routing import KeyByNode

        keys = self.keys or key_columns
        if not keys:
            raise ConfigurationError(f"state machine {self.id!r} has no key: give it key=…, or track a keyed stream")
        if key_columns and keys != key_columns:
            raise ConfigurationError(
                f"the key of state machine {self.id!r} is {', '.join(keys)}, "
                f"the stream is keyed by {', '.join(key_columns)}"
            )
        if not key_columns:
            upstream = KeyByNode(keys, {}, inputs=(upstream,))
        return MachineNode(self, keys, inputs=(upstream,))
