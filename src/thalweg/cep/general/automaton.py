"""From a pattern to states and edges.

A state waits for the next event of a partial match. Its edges, each with a test:

- *take*: the event becomes part of the match, under the name of the edge's state;
- *ignore*: the event is passed over;
- *proceed*: the same event is offered to another state (an epsilon move): how steps are left out and loops are left.

The construction goes from the last step to the first; each step is given the state that follows it. Meanings are those
of Flink's CEP library (its documentation, and the published cases in `tests/conformance`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thalweg.cep.general.edge_tests import Test, always, negated
from thalweg.cep.general.place import Place, Tests, name_of
from thalweg.cep.general.states import Automaton, State, States, yield_to
from thalweg.cep.pattern import AnyOf, Choice, Contiguity, Element, Group, Pattern, Permutation, Step


def build(pattern: Pattern, bit_of: Callable[[Any], int]) -> Automaton:
    """Compiles a pattern.

    Args:
        bit_of: the bit of a condition on the event alone.
    """
    return _Compiler(pattern, bit_of).run()


class _Compiler(Tests):
    def __init__(self, pattern: Pattern, bit_of: Callable[[Any], int]) -> None:
        super().__init__(pattern, bit_of)
        self.states = States()
        self.step_numbers = {name: number for number, name in enumerate(pattern.step_names)}
        self.before_greedy: dict[int, State] = {}

    def run(self) -> Automaton:
        final = self.states.new("final", "match")
        start = self._sequence(self.pattern.steps, final, (), None)
        return Automaton(start, self.states.all, self.iterative, self.needs_all)

    # -- the pattern, backwards

    def _sequence(
        self, sequence: Sequence[Element], sink: State, groups: tuple[Element, ...], following: Element | None
    ) -> State:
        for index in reversed(range(len(sequence))):
            after = sequence[index + 1] if index + 1 < len(sequence) else following
            place = Place(sequence, index, groups, after)
            element = place.element
            if element.contiguity is Contiguity.NOT_FOLLOWED_BY:
                if sink.kind == "final":
                    sink = self._trailing_absence(place, sink)
            elif element.contiguity is Contiguity.NOT_NEXT:
                sink = self._not_next(place, sink)
            else:
                sink = self._positive(place, sink)
        return sink

    def _positive(self, place: Place, sink: State) -> State:
        element, quantifier = place.element, place.element.quantifier
        if quantifier.looping:
            # Once the loop has begun, what must not come before a step that was left out is no longer forbidden.
            self.round(element, repeating=True)
            loop = self._loop(place, self._without_nots(place, sink))
            first = self._times(place, loop, sink)
        elif quantifier.repeats:
            first = self._times(place, sink, sink)
        else:
            ignore = self.ignore(place, inner=False)
            first = self._single(place, sink, sink, self.take(place), ignore, quantifier.optional)
        self._add_stops(place, first)
        return first

    def _not_next(self, place: Place, sink: State) -> State:
        """Waits for one event, which must not fit; the following step is offered that same event."""
        self.needs_all = True
        test = self.test(place.element)
        state = self.states.new("normal", name_of(place.element))
        state.add("ignore" if sink.kind == "final" else "proceed", sink, negated(test))
        state.add("proceed", self._stop(place.element), test)
        return state

    def _trailing_absence(self, place: Place, sink: State) -> State:
        """At the end of a pattern: waits for `within` to pass, which makes the match."""
        test = self.test(place.element)
        state = self.states.new("pending", name_of(place.element))
        state.add("ignore", state, negated(test))
        state.add("proceed", self._stop(place.element), test)
        return state

    def _times(self, place: Place, sink: State, proceed: State) -> State:
        """`minimum` to `maximum` occurrences; for loops the ones before the looping state."""
        element = place.element
        quantifier = element.quantifier
        self.round(element, repeating=True)
        until = self.until(element)
        take, inner = self.take(place), self.ignore(place, inner=True)
        maximum = quantifier.minimum if quantifier.maximum is None else quantifier.maximum
        if quantifier.greedy and quantifier.minimum != maximum:
            if until is not None:
                self.before_greedy[id(sink)] = self.states.copy(sink)
            yield_to(sink, self.test(element))
        state = sink
        for number in range(maximum - 1):
            optional = number < maximum - quantifier.minimum
            state = self._single(place, state, proceed if optional else None, take, inner, optional)
            self._add_stop_of_following(place, state)
        self.round(element, repeating=False)
        return self._single(place, state, proceed, take, self.ignore(place, inner=False), quantifier.optional)

    def _single(
        self, place: Place, sink: State, proceed: State | None, take: Test, ignore: Test | None, optional: bool
    ) -> State:
        """A state for one occurrence of an element."""
        element = place.element
        if isinstance(element, Group):
            return self._group(place, sink, proceed, optional)
        if isinstance(element, Choice):
            return self._choice(place, sink, proceed if optional else None, ignore, optional)
        state = self._waiting(element)
        taken = self._without_nots(place, sink)
        state.add("take", taken, take)
        if optional and proceed is not None:
            until = self.until(element)
            if element.quantifier.greedy and until is not None:
                original = self.before_greedy.get(id(proceed))
                if original is not None:
                    state.add("proceed", original, until)
                state.add("proceed", proceed, negated(until))
            else:
                state.add("proceed", proceed, always)
        if ignore is not None:
            waiting = state
            if optional or self.opens_optional_group(place):
                # Having passed an event over, the step may no longer be left out from here.
                waiting = self._waiting(element)
                waiting.add("take", taken, take)
                waiting.add("ignore", waiting, ignore)
                self._add_stops(place, waiting)
            state.add("ignore", waiting, ignore)
        return state

    def _loop(self, place: Place, sink: State) -> State:
        """The state from which a loop may go on or be left."""
        element = place.element
        if isinstance(element, Group):
            return self._looping_group(element, place, sink)
        if isinstance(element, Choice):
            return self._looping_choice(place, sink)
        take, ignore, until = self.take(place), self.ignore(place, inner=True), self.until(element)
        state = self._waiting(element)
        if element.quantifier.greedy:
            if until is not None:
                original = self.states.copy(sink)
                state.add("proceed", original, until)
                self.before_greedy[id(sink)] = original
                state.add("proceed", sink, negated(until))
            else:
                state.add("proceed", sink, always)
            yield_to(sink, self.test(element))
        else:
            state.add("proceed", sink, always)
        state.add("take", state, take)
        self._add_stop_of_following(place, state)
        if ignore is not None:
            waiting = self._waiting(element)
            waiting.add("take", state, take)
            waiting.add("ignore", waiting, ignore)
            state.add("ignore", waiting, ignore)
            self._add_stop_of_following(place, waiting)
        return state

    def _group(self, place: Place, sink: State, proceed: State | None, optional: bool) -> State:
        group = place.element
        assert isinstance(group, Group)
        head = self._sequence(group.steps, sink, (*place.groups, group), place.following)
        if optional and proceed is not None:
            head.add("proceed", proceed, always)
        return head

    def _looping_group(self, group: Group, place: Place, sink: State) -> State:
        end = self.states.new("end", "end of group")
        head = self._sequence(group.steps, end, (*place.groups, group), place.following)
        head.add("proceed", sink, always)
        end.add("proceed", head, always)
        return head

    def _choice(self, place: Place, sink: State, proceed: State | None, ignore: Test | None, optional: bool) -> State:
        """One round of an alternation or a permutation: a fork to its beginnings, which passes events over for all."""
        heads = self._heads(place, self._without_nots(place, sink))
        state = self.states.fork(name_of(place.element), heads)
        if proceed is not None:
            state.add("proceed", proceed, always)
        if ignore is not None:
            waiting = state
            if optional or self.opens_optional_group(place):
                waiting = self.states.fork(state.name, heads)
                waiting.add("ignore", waiting, ignore)
                self._add_stops(place, waiting)
            state.add("ignore", waiting, ignore)
        return state

    def _looping_choice(self, place: Place, sink: State) -> State:
        state = self.states.fork(name_of(place.element), [sink])
        heads = self._heads(place, state)
        for head in heads:
            state.add("proceed", head, always)
        self._add_stop_of_following(place, state)
        ignore = self.ignore(place, inner=True)
        if ignore is not None:
            waiting = self.states.fork(state.name, heads)
            waiting.add("ignore", waiting, ignore)
            state.add("ignore", waiting, ignore)
            self._add_stop_of_following(place, waiting)
        return state

    def _heads(self, place: Place, sink: State) -> list[State]:
        """The states in which the alternatives begin; each leads to `sink`."""
        element = place.element
        if isinstance(element, Permutation):
            return self._orders(place, element, sink, frozenset(range(len(element.elements))), {})
        assert isinstance(element, AnyOf)
        return [self._branch(place, branch, sink, place.following) for branch in element.branches]

    def _orders(
        self, place: Place, element: Permutation, sink: State, left: frozenset[int], done: dict[frozenset[int], State]
    ) -> list[State]:
        """The states that wait for the next of the elements that are `left`; what comes after one is shared."""
        heads = []
        for number in sorted(left):
            rest = left - {number}
            if rest and rest not in done:
                further = self._orders(place, element, sink, rest, done)
                done[rest] = self.states.fork(name_of(element), further)
                ignore = self.between(place, element, rest)
                if ignore is not None:
                    done[rest].add("ignore", done[rest], ignore)
            branch = Group((element.elements[number],), Contiguity.STRICT)
            heads.append(self._branch(place, branch, done[rest] if rest else sink, None if rest else place.following))
        return heads

    def _branch(self, place: Place, branch: Group, sink: State, following: Element | None) -> State:
        return self._sequence(branch.steps, sink, (*place.groups, place.element, branch), following)

    # -- what must not come

    def _forbidden(self, place: Place) -> list[Step]:
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

    def _add_stops(self, place: Place, state: State) -> None:
        for step in self._forbidden(place):
            state.add("proceed", self._stop(step), self.test(step))

    def _add_stop_of_following(self, place: Place, state: State) -> None:
        following = place.following
        if following is not None and following.contiguity is Contiguity.NOT_FOLLOWED_BY:
            state.add("proceed", self._stop(following), self.test(following))

    def _without_nots(self, place: Place, state: State) -> State:
        """The state without the edges that forbid what was forbidden before an optional element: it was taken."""
        forbidden = {step.name for step in self._forbidden(place)}
        if not forbidden or not place.element.quantifier.optional:
            return state
        return self.states.without_stops(state, forbidden)

    # -- states

    def _waiting(self, step: Step) -> State:
        """A state that waits for an event of this step."""
        return self.states.new("normal", step.name, self.step_numbers[step.name])

    def _stop(self, element: Element) -> State:
        return self.states.stop(name_of(element))
