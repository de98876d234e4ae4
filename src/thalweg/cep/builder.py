"""`PatternBuilder`: patterns step by step, with every mistake named where it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thalweg.cep.checks import check_pattern, check_sequence
from thalweg.cep.conditions import Condition
from thalweg.cep.pattern import AfterMatch, AnyOf, Contiguity, Element, Group, Pattern, Permutation, Step
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class PatternBuilder:
    """Builds a `Pattern`.

    Each step has a name and a condition: an expression, a lambda over the event, a text (`"amount > 100"`), or a lambda
    over the event and the partial match so far; without a condition any event fits. Quantifiers apply to the step
    before them.

    >>> pattern = (
    ...     PatternBuilder.create("brute-force-login", "Brute force login attempt")
    ...     .where("failed", lambda e: (e.type == "login") & ~e.success).times(3)
    ...     .within("1m")
    ...     .build()
    ... )
    >>> pattern.describe()
    'brute-force-login: failed{3} within 60000 ms, skip_past_last'
    """

    def __init__(self, pattern_id: str, name: str | None = None) -> None:
        if not pattern_id or not isinstance(pattern_id, str):
            raise ConfigurationError("a pattern needs an id: PatternBuilder.create('brute-force')")
        self._id = pattern_id
        self._name = name or pattern_id
        self._steps: list[Element] = []
        self._within: int | None = None
        self._max_gap: int | None = None
        self._after_match = AfterMatch.PAST_LAST
        self._measures: dict[str, Any] = {}

    @classmethod
    def create(cls, pattern_id: str, name: str | None = None) -> PatternBuilder:
        """Begins a pattern.

        Args:
            pattern_id: names it in results, metrics and state; keep it stable.
            name: for people; the id where not given.
        """
        return cls(pattern_id, name)

    # -- steps

    def where(self, name: str, condition: Any = None) -> PatternBuilder:
        """The first step, or a further one with relaxed contiguity."""
        return self._add(name, condition, Contiguity.RELAXED)

    def next(self, step: str | PatternBuilder, condition: Any = None) -> PatternBuilder:
        """A step (or group) that the very next event of the key has to fit."""
        return self._add(step, condition, Contiguity.STRICT)

    def followed_by(self, step: str | PatternBuilder, condition: Any = None) -> PatternBuilder:
        """A step (or group) before which events that do not fit it are passed over."""
        return self._add(step, condition, Contiguity.RELAXED)

    def followed_by_any(self, step: str | PatternBuilder, condition: Any = None) -> PatternBuilder:
        """A step (or group) before which any events are passed over, also such that fit it."""
        return self._add(step, condition, Contiguity.ANY)

    def not_next(self, name: str, condition: Any) -> PatternBuilder:
        """The very next event must not be like this."""
        return self._add(name, condition, Contiguity.NOT_NEXT)

    def not_followed_by(self, name: str, condition: Any) -> PatternBuilder:
        """No event may be like this before the following step has its event."""
        return self._add(name, condition, Contiguity.NOT_FOLLOWED_BY)

    def group(self, inner: PatternBuilder) -> PatternBuilder:
        """Steps to be quantified together, with relaxed contiguity.

        `next(inner)` and `followed_by_any(inner)` give the others.

        Only the steps of `inner` are taken: its id, `within` and `skip` mean nothing.
        """
        return self._add(inner, None, Contiguity.RELAXED)

    def any_of(
        self, *branches: PatternBuilder | tuple[str, Any], contiguity: Contiguity = Contiguity.RELAXED
    ) -> PatternBuilder:
        """One of several alternatives, each a builder's steps or a pair (name, condition).

        An event that can begin any of them is not passed over with relaxed contiguity, as if all were one step.
        """
        if len(branches) < 2:
            raise ConfigurationError(f"{self._id}: any_of needs two branches or more")
        groups = tuple(Group(self._branch(branch), Contiguity.STRICT) for branch in branches)
        self._steps.append(AnyOf(groups, self._positive(contiguity, "any_of")))
        return self

    def permutation(self, inner: PatternBuilder, *, contiguity: Contiguity = Contiguity.RELAXED) -> PatternBuilder:
        """The steps of `inner`, all of them, in any order.

        What may lie between them is said by the contiguity of its second step and of all after it, which is one and the
        same.
        """
        elements = self._branch(inner)
        between = {element.contiguity for element in elements[1:]}
        if len(between) != 1:
            raise ConfigurationError(f"{self._id}: a permutation needs two steps or more, of the same contiguity")
        if any(element.quantifier.optional for element in elements):
            raise ConfigurationError(f"{self._id}: all steps of a permutation occur; none may be optional")
        if len(elements) > MOST_PERMUTED:
            raise ConfigurationError(f"{self._id}: a permutation of {len(elements)} steps; at most {MOST_PERMUTED}")
        self._steps.append(Permutation(elements, self._positive(contiguity, "permutation"), between.pop()))
        return self

    def _branch(self, branch: PatternBuilder | tuple[str, Any]) -> tuple[Element, ...]:
        if isinstance(branch, tuple):
            branch = PatternBuilder(self._id).where(*branch)
        elements = tuple(branch._steps)
        check_sequence(self._id, elements, last_may_be_negative=False)
        if elements[0].quantifier.optional:
            raise ConfigurationError(f"{self._id}: an alternative can't begin with a step that may be left out")
        return elements

    def _positive(self, contiguity: Contiguity, method: str) -> Contiguity:
        if Contiguity(contiguity).negative:
            raise ConfigurationError(f"{self._id}: {method} can't be {contiguity}")
        return Contiguity(contiguity)

    def _add(self, step: str | PatternBuilder, condition: Any, contiguity: Contiguity) -> PatternBuilder:
        if isinstance(step, PatternBuilder):
            if condition is not None:
                raise ConfigurationError(f"{self._id}: a group has no condition of its own")
            inner = tuple(step._steps)
            check_sequence(self._id, inner, last_may_be_negative=False)
            self._steps.append(Group(inner, contiguity))
            return self
        if not step or not isinstance(step, str):
            raise ConfigurationError(f"{self._id}: a step needs a name, not {step!r}")
        if condition is None and contiguity.negative:
            raise ConfigurationError(f"{self._id}: {contiguity}({step!r}) needs a condition")
        self._steps.append(Step(step, _condition(condition), contiguity))
        return self

    # -- quantifiers

    def times(self, minimum: int, maximum: int | None = None) -> PatternBuilder:
        """The step occurs `minimum` times, or `minimum` to `maximum` times."""
        most = minimum if maximum is None else maximum
        if isinstance(minimum, bool) or not isinstance(minimum, int) or not isinstance(most, int):
            raise ConfigurationError(f"{self._id}: times({minimum!r}, {maximum!r}) takes whole numbers")
        if minimum == 0 and most >= 1:
            return self._quantify("times", minimum=1, maximum=most, optional=True)
        if not 1 <= minimum <= most:
            raise ConfigurationError(f"{self._id}: times({minimum}, {most}) must be 0 <= minimum <= maximum, above 0")
        return self._quantify("times", minimum=minimum, maximum=most)

    def times_or_more(self, minimum: int) -> PatternBuilder:
        """The step occurs `minimum` times or more."""
        if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 1:
            raise ConfigurationError(f"{self._id}: times_or_more({minimum!r}) takes a whole number from 1 on")
        return self._quantify("times_or_more", minimum=minimum, maximum=None)

    def one_or_more(self) -> PatternBuilder:
        """The step occurs once or more often. Every length is a match of its own, unless `greedy` or skipped."""
        return self._quantify("one_or_more", minimum=1, maximum=None)

    def zero_or_more(self) -> PatternBuilder:
        """The step occurs any number of times, or not at all."""
        return self._quantify("zero_or_more", minimum=1, maximum=None, optional=True)

    def optional(self) -> PatternBuilder:
        """The step may be left out."""
        if self._last("optional").quantifier.optional:
            raise ConfigurationError(f"{self._id}: the step is optional already")
        return self._change(optional=True)

    def greedy(self) -> PatternBuilder:
        """The loop takes an event that it can take, rather than leaving it to the next step."""
        last = self._last("greedy")
        if not isinstance(last, Step):
            raise ConfigurationError(f"{self._id}: greedy does not apply to groups")
        if last.quantifier.minimum == last.quantifier.maximum and not last.quantifier.optional:
            raise ConfigurationError(f"{self._id}: greedy needs a step whose number of events is open")
        return self._change(greedy=True)

    def reluctant(self) -> PatternBuilder:
        """Takes `greedy` back: an event that fits the loop and the step after it may go to either."""
        self._last("reluctant")
        return self._change(greedy=False)

    def consecutive(self) -> PatternBuilder:
        """Nothing may lie between the repetitions."""
        return self._inner("consecutive", Contiguity.STRICT)

    def allow_combinations(self) -> PatternBuilder:
        """Anything may lie between the repetitions, also events that would fit."""
        return self._inner("allow_combinations", Contiguity.ANY)

    def until(self, condition: Any) -> PatternBuilder:
        """Ends a loop at an event of this kind, which the loop does not take."""
        last = self._last("until")
        if not last.quantifier.looping:
            raise ConfigurationError(f"{self._id}: until needs a loop: one_or_more, zero_or_more or times_or_more")
        if condition is None:
            raise ConfigurationError(f"{self._id}: until needs a condition")
        self._steps[-1] = replace(last, until=_condition(condition))
        return self

    def _inner(self, method: str, inner: Contiguity) -> PatternBuilder:
        last = self._last(method)
        if not last.quantifier.repeats:
            raise ConfigurationError(f"{self._id}: {method} needs a step that repeats")
        return self._change(inner=inner)

    def _quantify(self, method: str, **changes: Any) -> PatternBuilder:
        if self._last(method).quantifier.repeats:
            raise ConfigurationError(f"{self._id}: the step before {method} has a quantifier already")
        return self._change(**changes)

    def _change(self, **changes: Any) -> PatternBuilder:
        last = self._steps[-1]
        self._steps[-1] = replace(last, quantifier=replace(last.quantifier, **changes))
        return self

    def _last(self, method: str) -> Element:
        if not self._steps:
            raise ConfigurationError(f"{self._id}: {method} comes after a step; begin with where(name, condition)")
        last = self._steps[-1]
        if last.contiguity.negative:
            raise ConfigurationError(f"{self._id}: {method} does not apply to {last.contiguity}")
        return last

    # -- bounds

    def within(self, duration: Duration) -> PatternBuilder:
        """A match's last event comes less than this after its first; partial matches older than that time out."""
        self._within = milliseconds(duration, name=f"{self._id}: within", minimum=1)
        return self

    def max_gap(self, duration: Duration) -> PatternBuilder:
        """Each event of a match comes less than this after the event of the match before it."""
        self._max_gap = milliseconds(duration, name=f"{self._id}: max_gap", minimum=1)
        return self

    def skip(self, after_match: AfterMatch) -> PatternBuilder:
        """Which partial matches a match ends; by default all that began before its last event."""
        if not isinstance(after_match, AfterMatch):
            raise ConfigurationError(f"{self._id}: skip takes AfterMatch.…, not {after_match!r}")
        self._after_match = after_match
        return self

    def measures(self, **measures: Any) -> PatternBuilder:
        """Result columns, computed from the match.

        Args:
            measures: column → function of the match, called once to get an expression:
                `measures(spent=lambda m: m.sum("buy", "amount"), ip=lambda m: m.first("failed").ip)`.
        """
        self._measures.update(measures)
        return self

    def build(self) -> Pattern:
        """The finished pattern.

        Raises:
            ConfigurationError: no step, a name twice, a pattern that begins with a negative step or ends with one that
                no time bounds, an unknown step to skip to or to measure.
        """
        pattern = Pattern(
            self._id,
            self._name,
            tuple(self._steps),
            self._within,
            self._max_gap,
            self._after_match,
            tuple(self._measures.items()),
        )
        check_pattern(pattern)
        return pattern


def _condition(condition: Any) -> Any:
    return Condition(condition) if isinstance(condition, str) else condition


MOST_PERMUTED = 8
"""The automaton of a permutation has a state for each subset of its steps."""
