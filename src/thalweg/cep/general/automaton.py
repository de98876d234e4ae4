"""From a pattern to states and edges.

A state waits for the next event of a partial match. Its edges, each with a test:

- *take*: the event becomes part of the match, under the name of the edge's state;
- *ignore*: the event is passed over;
- *proceed*: the same event is offered to another state (an epsilon move): how steps are left out and loops are left.

The construction goes from the last step to the first; each step is given the state that follows it. Meanings are those
of Flink's CEP library (its documentation, and the published cases in `tests/conformance`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.cep.general.edge_tests import Test, always, both, has_bit, iterative, negated
from thalweg.cep.pattern import Contiguity, Element, Group, Pattern, Step
from thalweg.errors import ConfigurationError

Action = Literal["take", "ignore", "proceed"]
Kind = Literal["normal", "final", "stop", "pending"]


@dataclass(slots=True, eq=False)
class Edge:
    """A possible move."""

    action: Action
    target: State
    test: Test


@dataclass(slots=True, eq=False)
class State:
    """A place in the automaton. `step` is the number of the step whose event it waits for; -1 for start-less ends."""

    number: int
    step: int
    kind: Kind
    name: str = ""
    edges: list[Edge] = field(default_factory=list)

    def add(self, action: Action, target: State, test: Test) -> None:
        self.edges.append(Edge(action, target, test))


@dataclass(slots=True)
class Automaton:
    """The states of one pattern; partial matches name them by number."""

    start: State
    states: list[State]
    iterative: bool
    """Whether any test asks for the partial match."""
    needs_all: bool
    """Whether events that fit no condition matter (strict contiguity, `not_next`, iterative conditions)."""


def build(pattern: Pattern, bit_of: Callable[[Any], int]) -> Automaton:
    """Compiles a pattern.

    Args:
        bit_of: the bit of a condition on the event alone.
    """
    return _Compiler(pattern, bit_of).run()


@dataclass(frozen=True)
class _Place:
    """Where the compiler is: an element among its neighbours."""

    sequence: Sequence[Element]
    index: int
    groups: tuple[Group, ...]
    """The groups around it, the innermost last."""
    following: Element | None
    """The element after this one; inside a group, the last one's is that of the group."""

    @property
    def element(self) -> Element:
        return self.sequence[self.index]

    @property
    def group(self) -> Group | None:
        return self.groups[-1] if self.groups else None

    @property
    def heads_group(self) -> bool:
        return bool(self.groups) and self.index == 0


class _Compiler:
    def __init__(self, pattern: Pattern, bit_of: Callable[[Any], int]) -> None:
        self.pattern = pattern
        self.bit_of = bit_of
        self.states: list[State] = []
        self.step_numbers = {name: number for number, name in enumerate(pattern.step_names)}
        self.iterative = False
        self.needs_all = False
        self.stops: dict[str, State] = {}
        self.repeating: dict[int, bool] = {}
        """Per group: whether its first step is being built for a later round."""
        self.before_greedy: dict[int, State] = {}

    def run(self) -> Automaton:
        final = self._state("final", name="final")
        start = self._sequence(self.pattern.steps, final, (), None)
        return Automaton(start, self.states, self.iterative, self.needs_all)

    # -- the pattern, backwards

    def _sequence(
        self, sequence: Sequence[Element], sink: State, groups: tuple[Group, ...], following: Element | None
    ) -> State:
        for index in reversed(range(len(sequence))):
            after = sequence[index + 1] if index + 1 < len(sequence) else following
            place = _Place(sequence, index, groups, after)
            element = place.element
            if element.contiguity is Contiguity.NOT_FOLLOWED_BY:
                if sink.kind == "final":
                    sink = self._trailing_absence(place, sink)
            elif element.contiguity is Contiguity.NOT_NEXT:
                sink = self._not_next(place, sink)
            else:
                sink = self._positive(place, sink)
        return sink

    def _positive(self, place: _Place, sink: State) -> State:
        element, quantifier = place.element, place.element.quantifier
        if quantifier.looping:
            # Once the loop has begun, what must not come before a step that was left out is no longer forbidden.
            self._round(element, repeating=True)
            loop = self._loop(place, self._without_nots(place, sink))
            first = self._times(place, loop, sink)
        elif quantifier.repeats:
            first = self._times(place, sink, sink)
        else:
            ignore = self._ignore(place, inner=False)
            first = self._single(place, sink, sink, self._take(place), ignore, quantifier.optional)
        self._add_stops(place, first)
        return first

    def _not_next(self, place: _Place, sink: State) -> State:
        """Waits for one event, which must not fit; the following step is offered that same event."""
        self.needs_all = True
        test = self._test(place.element)
        state = self._state("normal", name=_name(place.element))
        state.add("ignore" if sink.kind == "final" else "proceed", sink, negated(test))
        state.add("proceed", self._stop(place.element), test)
        return state

    def _trailing_absence(self, place: _Place, sink: State) -> State:
        """At the end of a pattern: waits for `within` to pass, which makes the match."""
        test = self._test(place.element)
        state = self._state("pending", name=_name(place.element))
        state.add("ignore", state, negated(test))
        state.add("proceed", self._stop(place.element), test)
        return state

    def _times(self, place: _Place, sink: State, proceed: State) -> State:
        """`minimum` to `maximum` occurrences; for loops the ones before the looping state."""
        element = place.element
        quantifier = element.quantifier
        self._round(element, repeating=True)
        until = self._until(element)
        take, inner = self._take(place), self._ignore(place, inner=True)
        maximum = quantifier.minimum if quantifier.maximum is None else quantifier.maximum
        if quantifier.greedy and quantifier.minimum != maximum:
            if until is not None:
                self.before_greedy[id(sink)] = self._copy(sink)
            self._yield_to(sink, self._test(element))
        state = sink
        for number in range(maximum - 1):
            optional = number < maximum - quantifier.minimum
            state = self._single(place, state, proceed if optional else None, take, inner, optional)
            self._add_stop_of_following(place, state)
        self._round(element, repeating=False)
        return self._single(place, state, proceed, take, self._ignore(place, inner=False), quantifier.optional)

    def _single(
        self, place: _Place, sink: State, proceed: State | None, take: Test, ignore: Test | None, optional: bool
    ) -> State:
        """A state for one occurrence of an element."""
        element = place.element
        if isinstance(element, Group):
            return self._group(place, sink, proceed, optional)
        state = self._state("normal", element)
        taken = self._without_nots(place, sink)
        state.add("take", taken, take)
        if optional and proceed is not None:
            until = self._until(element)
            if element.quantifier.greedy and until is not None:
                original = self.before_greedy.get(id(proceed))
                if original is not None:
                    state.add("proceed", original, until)
                state.add("proceed", proceed, negated(until))
            else:
                state.add("proceed", proceed, always)
        if ignore is not None:
            waiting = state
            if optional or self._opens_optional_group(place):
                # Having passed an event over, the step may no longer be left out from here.
                waiting = self._state("normal", element)
                waiting.add("take", taken, take)
                waiting.add("ignore", waiting, ignore)
                self._add_stops(place, waiting)
            state.add("ignore", waiting, ignore)
        return state

    def _loop(self, place: _Place, sink: State) -> State:
        """The state from which a loop may go on or be left."""
        element = place.element
        if isinstance(element, Group):
            return self._looping_group(element, place, sink)
        take, ignore, until = self._take(place), self._ignore(place, inner=True), self._until(element)
        state = self._state("normal", element)
        if element.quantifier.greedy:
            if until is not None:
                original = self._copy(sink)
                state.add("proceed", original, until)
                self.before_greedy[id(sink)] = original
                state.add("proceed", sink, negated(until))
            else:
                state.add("proceed", sink, always)
            self._yield_to(sink, self._test(element))
        else:
            state.add("proceed", sink, always)
        state.add("take", state, take)
        self._add_stop_of_following(place, state)
        if ignore is not None:
            waiting = self._state("normal", element)
            waiting.add("take", state, take)
            waiting.add("ignore", waiting, ignore)
            state.add("ignore", waiting, ignore)
            self._add_stop_of_following(place, waiting)
        return state

    def _group(self, place: _Place, sink: State, proceed: State | None, optional: bool) -> State:
        group = place.element
        assert isinstance(group, Group)
        head = self._sequence(group.steps, sink, (*place.groups, group), place.following)
        if optional and proceed is not None:
            head.add("proceed", proceed, always)
        return head

    def _looping_group(self, group: Group, place: _Place, sink: State) -> State:
        end = self._state("normal", name="(end of group)")
        head = self._sequence(group.steps, end, (*place.groups, group), place.following)
        head.add("proceed", sink, always)
        end.add("proceed", head, always)
        return head

    # -- what must not come

    def _forbidden(self, place: _Place) -> list[Step]:
        """The `not_followed_by` steps before an element that are still in force when it is reached."""
        found = []
        for index in range(place.index - 1, -1, -1):
            element = place.sequence[index]
            if element.contiguity is Contiguity.NOT_FOLLOWED_BY:
                assert isinstance(element, Step)
                found.append(element)
            elif not element.quantifier.optional:
                break
        return found

    def _add_stops(self, place: _Place, state: State) -> None:
        for step in self._forbidden(place):
            state.add("proceed", self._stop(step), self._test(step))

    def _add_stop_of_following(self, place: _Place, state: State) -> None:
        following = place.following
        if following is not None and following.contiguity is Contiguity.NOT_FOLLOWED_BY:
            state.add("proceed", self._stop(following), self._test(following))

    def _without_nots(self, place: _Place, state: State) -> State:
        """The state without the edges that forbid what was forbidden before an optional element: it was taken."""
        forbidden = {step.name for step in self._forbidden(place)}
        if not forbidden or not place.element.quantifier.optional:
            return state
        return self._stripped(state, forbidden, {})

    def _stripped(self, state: State, forbidden: set[str], done: dict[int, State]) -> State:
        if id(state) in done:
            return done[id(state)]
        copy = done[id(state)] = self._state(state.kind, name=state.name, step=state.step)
        for edge in state.edges:
            target = edge.target
            if edge.action == "proceed":
                if target.kind == "stop":
                    if target.name in forbidden:
                        continue
                elif target.kind != "final":
                    target = self._stripped(target, forbidden, done)
            elif target is state:
                target = copy
            copy.add(edge.action, target, edge.test)
        return copy

    # -- greed

    def _yield_to(self, state: State, take: Test) -> None:
        """Makes a state leave alone what the loop before it can take."""
        for edge in state.edges:
            edge.test = both(edge.test, negated(take))

    def _copy(self, state: State) -> State:
        copy = self._state(state.kind, name=state.name, step=state.step)
        for edge in state.edges:
            copy.add(edge.action, copy if edge.target is state else edge.target, edge.test)
        return copy

    # -- tests

    def _opens_optional_group(self, place: _Place) -> bool:
        """Whether the step is the first of a group that may be left out, on its first round."""
        group = place.group
        return (
            place.heads_group
            and group is not None
            and group.quantifier.optional
            and not self.repeating.get(id(group), False)
        )

    def _take(self, place: _Place) -> Test:
        return self._not_ended(place, self._test(place.element), own=True)

    def _not_ended(self, place: _Place, test: Test, *, own: bool) -> Test:
        """The test, but never for an event that ends (`until`) the element's own loop or one around it."""
        ends = [self._until(element) for element in (*place.groups, *((place.element,) if own else ()))]
        for end in ends:
            if end is not None:
                test = both(negated(end), test)
        return test

    def _ignore(self, place: _Place, *, inner: bool) -> Test | None:
        """Which events may be passed over before (or, `inner`, between) the element's events; None: none."""
        contiguity = self._contiguity(place, inner)
        if contiguity is Contiguity.STRICT:
            if place.index or inner or place.group is not None:
                self.needs_all = True
            return None
        test = always if contiguity is Contiguity.ANY else negated(self._test(place.element))
        return self._not_ended(place, test, own=inner)

    def _contiguity(self, place: _Place, inner: bool) -> Contiguity:
        """A group's first step stands for the group: for its contiguity, or on later rounds its inner one."""
        element = place.element
        if place.heads_group:
            assert place.group is not None
            if inner or self.repeating.get(id(place.group), False):
                return place.group.quantifier.inner
            return self._of_head(place.group)
        if inner:
            return element.quantifier.inner
        return self._of_head(element)

    def _of_head(self, element: Element) -> Contiguity:
        """The first step of all has nothing before it: it begins with the event at hand."""
        return Contiguity.STRICT if element is self.pattern.steps[0] else element.contiguity

    def _round(self, element: Element, *, repeating: bool) -> None:
        if isinstance(element, Group):
            self.repeating[id(element)] = repeating

    def _test(self, element: Element) -> Test:
        return always if isinstance(element, Group) else self._of_condition(element.condition)

    def _until(self, element: Element) -> Test | None:
        return None if element.until is None else self._of_condition(element.until)

    def _of_condition(self, condition: Any) -> Test:
        if condition is None:
            self.needs_all = True
            return always
        if takes_match(condition):
            self.iterative = self.needs_all = True
            return iterative(condition)
        return has_bit(self.bit_of(condition))

    # -- states

    def _state(
        self,
        kind: Kind,
        element: Step | None = None,
        *,
        name: str = "",
        step: int = -1,
    ) -> State:
        if element is not None:
            name, step = element.name, self.step_numbers[element.name]
        state = State(len(self.states), step, kind, name)
        self.states.append(state)
        return state

    def _stop(self, element: Element) -> State:
        name = _name(element)
        if name not in self.stops:
            self.stops[name] = self._state("stop", name=name)
            self.stops[name].add("take", self.stops[name], always)
        return self.stops[name]


def _name(element: Element) -> str:
    return element.name if isinstance(element, Step) else "(group)"


def takes_match(condition: Any) -> bool:
    """Whether a condition is a function of two arguments: the event and the partial match.

    Raises:
        ConfigurationError: it takes more.
    """
    if not callable(condition):
        return False
    try:
        parameters = inspect.signature(condition).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    if len(places) > 2:
        raise ConfigurationError("a condition takes the event, or the event and the partial match, not more")
    return len(places) == 2
