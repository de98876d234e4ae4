"""What a state machine's definition is refused for, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from thalweg.durations import milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.plan.functions import close_names
from thalweg.streams.windows import TimeSemantics

if TYPE_CHECKING:
    from thalweg.cep.machine.definition import StateMachine, Transition

_PREVIOUS, _ANY = "@previous", "*"
_TIMES = (TimeSemantics.EVENT_TIME, TimeSemantics.PROCESSING_TIME)


def check(machine: StateMachine) -> None:
    """Refuses what can't be right.

    Raises:
        ConfigurationError: which machine, what is wrong with it.
    """
    for problem in _problems(machine):
        raise ConfigurationError(f"state machine {machine.id!r}: {problem}")


def _problems(machine: StateMachine) -> Iterator[str]:
    if not machine.id:
        yield "it needs an id"
    if machine.history < 0:
        yield f"history is {machine.history}; it can't be negative"
    if machine.remember_final is not None:
        milliseconds(machine.remember_final, name="remember_final", minimum=1)
    if machine.time_semantics not in _TIMES:
        yield "it runs by event time or by processing time"
    yield from _names(machine)
    yield from _states(machine)
    yield from _reach(machine)
    yield from _timeout_circles(machine)
    yield from _never_taken(machine)


def _names(machine: StateMachine) -> Iterator[str]:
    def unknown(name: str, where: str) -> Iterator[str]:
        if name not in machine.states:
            yield f"{where} {name!r} is not a state{close_names(name, machine.states)}"

    for name in machine.states:
        if not name or name.startswith("@") or name == _ANY:
            yield f"a state can't be called {name!r}"
    yield from unknown(machine.initial, "the initial state")
    for transition in machine.transitions:
        if transition.sources != (_ANY,):
            for source in transition.sources:
                yield from unknown(source, f"the source of transition {transition.label!r},")
        if transition.target != _PREVIOUS:
            yield from unknown(transition.target, f"the target of transition {transition.label!r},")
        if not transition.sources:
            yield f"transition {transition.label!r} has no source"
        if transition.trigger is None or (isinstance(transition.trigger, str) and not transition.trigger):
            yield f"the transition to {transition.target!r} has no trigger"
    for name, state in machine.states.items():
        if state.on_timeout is not None:
            yield from unknown(state.on_timeout, f"the timeout of {name!r} goes to")


def _states(machine: StateMachine) -> Iterator[str]:
    for name, state in machine.states.items():
        if (state.timeout is None) != (state.on_timeout is None):
            yield f"state {name!r} needs timeout and on_timeout together"
        if state.timeout is not None:
            milliseconds(state.timeout, name=f"the timeout of {name!r}", minimum=1)
        out = [t.label for t in machine.transitions if name in machine.sources_of(t)]
        if state.final and (out or state.timeout is not None):
            yield f"state {name!r} is final, but {'transition ' + repr(out[0]) if out else 'its timeout'} leaves it"
        if not machine.is_final(name) and not out and state.timeout is None:
            yield f"state {name!r} is a dead end: nothing leaves it; make it final, or give it a transition or timeout"
        if machine.is_final(name) and state.on_exit is not None:
            yield f"state {name!r} is final: its on_exit would never be called"
    if machine.is_final(machine.initial):
        yield f"the initial state {machine.initial!r} is final"


def targets(machine: StateMachine, name: str) -> set[str]:
    """The states that one step leads to."""
    found = {t.target for t in machine.transitions if name in machine.sources_of(t) and t.target != _PREVIOUS}
    timeout = machine.states[name].on_timeout
    return found | ({timeout} if timeout is not None else set())


def _reach(machine: StateMachine) -> Iterator[str]:
    # A step back to the previous state leads only to states that were reached before.
    reached, todo = {machine.initial}, [machine.initial]
    while todo:
        new = targets(machine, todo.pop()) - reached
        reached |= new
        todo += new
    unreachable = [repr(name) for name in machine.states if name not in reached]
    if unreachable:
        yield f"no way leads from {machine.initial!r} to {', '.join(unreachable)}"


def _timeout_circles(machine: StateMachine) -> Iterator[str]:
    for start in machine.states:
        seen, at = [start], machine.states[start].on_timeout
        while at is not None and at not in seen:
            seen.append(at)
            at = machine.states[at].on_timeout
        if at == start:
            yield f"timeouts alone lead round in a circle, for ever: {' → '.join([*seen, start])}"


def _never_taken(machine: StateMachine) -> Iterator[str]:
    for name in machine.states:
        certain: set[str] = set()
        for transition in _leaving(machine, name, machine.transitions):
            if not isinstance(transition.trigger, str):
                continue
            if transition.trigger in certain:
                yield f"in state {name!r} an earlier transition always takes the trigger {transition.trigger!r}"
            if transition.guard is None:
                certain.add(transition.trigger)


def _leaving(machine: StateMachine, name: str, transitions: Iterable[Transition]) -> Iterator[Transition]:
    return (transition for transition in transitions if name in machine.sources_of(transition))
