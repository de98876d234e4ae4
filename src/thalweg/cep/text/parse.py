"""Reads patterns written as text, with Lark; conditions are those of `thalweg.cep.conditions`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from thalweg.cep.builder import MOST_PERMUTED
from thalweg.cep.checks import check_pattern
from thalweg.cep.conditions import ConditionError
from thalweg.cep.conditions.syntax import GRAMMAR as CONDITION_GRAMMAR
from thalweg.cep.pattern import AfterMatch, AnyOf, Contiguity, Element, Group, Pattern, Permutation, Quantifier, Step
from thalweg.cep.text.aggregates import condition_of, measure_of
from thalweg.durations import milliseconds
from thalweg.errors import ConfigurationError, MissingExtraError

# Next to each other: strict, as in SQL; `->` relaxed, `->>` any. `!` before a step: it must not come.
GRAMMAR = r"""
statement: measures? after? _PATTERN "(" row ")" within? gap? define?

measures: _MEASURES measure ("," measure)*
measure: condition _AS NAME
after: _AFTER _MATCH skip
skip: _SKIP _PAST _LAST _ROW -> past_last
    | _SKIP _TO _NEXT _ROW   -> to_next
    | _SKIP _TO _FIRST NAME  -> to_first
    | _SKIP _TO _LAST NAME   -> to_last
    | _NO _SKIP              -> no_skip
within: _WITHIN DURATION
gap: _MAX _GAP DURATION
define: _DEFINE definition ("," definition)*
definition: NAME _AS condition
condition: choice

row: element (link element)*
link: ARROW?
element: "!" NAME                                     -> absent
    | atom (LOOP until?)?                             -> present
until: _UNTIL "(" condition ")"
?atom: NAME                                           -> step
    | "(" row ("|" row)* ")"                          -> group
    | _PERMUTE ARROW? "(" element ("," element)+ ")"  -> permutation

ARROW: "->>" | "->"
LOOP.4: /(->>?)?([+*?]\??|\{\d+\}|\{\d+,\d*\}\??)/
DURATION: /(\d+(\.\d+)?(ms|s|m|h|d|w))+/
_PATTERN.3: /PATTERN\b/
_MEASURES.3: /MEASURES\b/
_AFTER.3: /AFTER\b/
_MATCH.3: /MATCH\b/
_SKIP.3: /SKIP\b/
_PAST.3: /PAST\b/
_LAST.3: /LAST(?=\s+[A-Za-z_])/
_FIRST.3: /FIRST(?=\s+[A-Za-z_])/
_NEXT.3: /NEXT\b/
_ROW.3: /ROW\b/
_TO.3: /TO\b/
_NO.3: /NO\b/
_WITHIN.3: /WITHIN\b/
_MAX.3: /MAX(?=\s+GAP)/
_GAP.3: /GAP\b/
_DEFINE.3: /DEFINE\b/
_AS.3: /AS\b/
_UNTIL.3: /UNTIL\b/
_PERMUTE.3: /PERMUTE\b/
"""

KEYWORDS = frozenset(
    {"AFTER", "AS", "DEFINE", "GAP", "MATCH", "MEASURES", "NEXT", "NO", "PAST", "PATTERN", "PERMUTE", "ROW", "SKIP"}
    | {"TO", "UNTIL", "WITHIN", "in", "true", "false", "null", "or", "and", "not"}
)
"""Words that can't be the names of steps."""
_LINKS = {"": Contiguity.STRICT, "->": Contiguity.RELAXED, "->>": Contiguity.ANY}


def parse_pattern(pattern_id: str, text: str, name: str | None = None) -> Pattern:
    """The pattern that a text describes (see docs/patterns.md for the language).

    Args:
        pattern_id: names it in results, metrics and state.
        text: `PATTERN (failed->{3} -> success) WITHIN 1m DEFINE failed AS …, success AS …`.
        name: for people; the id where not given.

    Raises:
        ConfigurationError: the text can't be read, and where; or the pattern is refused.
        MissingExtraError: Lark is not installed (`pip install 'thalweg[rules]'`).

    >>> parse_pattern("twice", "PATTERN (a->{2}) WITHIN 1m DEFINE a AS amount > 100").describe()
    'twice: a{2} within 60000 ms, skip_past_last'
    """
    parser, lark = _parser()
    try:
        tree = parser.parse(text)
        described: _Described = _transformer(text).transform(tree)
    except lark.exceptions.UnexpectedInput as error:
        raise ConditionError(_reason(error, lark), text, max(error.line, 1), max(error.column, 1)) from None
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, ConfigurationError):
            raise error.orig_exc from None
        raise
    return described.pattern(pattern_id, name or pattern_id)


def _reason(error: Any, lark: Any) -> str:
    if isinstance(error, lark.exceptions.UnexpectedToken):
        if error.token.type == "$END":
            return "it ends too early"
        return f"{str(error.token)!r} is not expected here"
    return "this is not understood"


@dataclass
class _Described:
    """A pattern without its id, conditions apart."""

    row: tuple[Element, ...]
    conditions: dict[str, str]
    within: int | None = None
    max_gap: int | None = None
    after_match: AfterMatch = AfterMatch.PAST_LAST
    measures: tuple[tuple[str, str], ...] = ()

    def pattern(self, pattern_id: str, name: str) -> Pattern:
        unused = set(self.conditions)
        steps = tuple(self._defined(element, unused) for element in self.row)
        if unused:
            raise ConfigurationError(f"{pattern_id}: DEFINE names {sorted(unused)[0]!r}, which PATTERN does not have")
        draft = Pattern(pattern_id, name, steps, self.within, self.max_gap, self.after_match)
        measures = tuple((column, measure_of(text, draft.step_names)) for column, text in self.measures)
        pattern = replace(draft, measures=measures)
        check_pattern(pattern)
        return pattern

    def _defined(self, element: Any, unused: set[str]) -> Any:
        """The element with the conditions of its steps, and of the ends of its loops."""
        until = None if element.until is None else condition_of(element.until)
        if isinstance(element, Step):
            unused.discard(element.name)
            text = self.conditions.get(element.name)
            return replace(element, condition=None if text is None else condition_of(text), until=until)
        part = {Group: "steps", AnyOf: "branches", Permutation: "elements"}[type(element)]
        inner = tuple(self._defined(inner, unused) for inner in getattr(element, part))
        return replace(element, **{part: inner}, until=until)


@lru_cache(maxsize=1)
def _parser() -> tuple[Any, Any]:
    try:
        import lark
    except ImportError:
        raise MissingExtraError("patterns as text need Lark: pip install 'thalweg[rules]'") from None
    grammar = CONDITION_GRAMMAR.replace("?start: choice", "") + GRAMMAR
    settings = {"parser": "lalr", "propagate_positions": True, "maybe_placeholders": False}
    return lark.Lark(grammar, start="statement", **settings), lark


def _transformer(text: str) -> Any:
    _, lark = _parser()

    @lark.v_args(meta=True)
    class ToPattern(lark.Transformer):  # type: ignore[misc, name-defined]
        """Bottom up; conditions stay text, which their own parser reads."""

        def statement(self, meta: Any, parts: Any) -> _Described:
            facts: dict[str, Any] = dict(part for part in parts if isinstance(part, tuple) and isinstance(part[0], str))
            row = next(part for part in parts if isinstance(part, list))
            return _Described(tuple(row), facts.pop("conditions", {}), **facts)

        def measures(self, meta: Any, parts: Any) -> Any:
            return "measures", tuple(parts)

        def measure(self, meta: Any, parts: Any) -> Any:
            return str(parts[1]), parts[0]

        def after(self, meta: Any, parts: Any) -> Any:
            return "after_match", parts[0]

        def past_last(self, meta: Any, parts: Any) -> AfterMatch:
            return AfterMatch.PAST_LAST

        def to_next(self, meta: Any, parts: Any) -> AfterMatch:
            return AfterMatch.TO_NEXT

        def to_first(self, meta: Any, parts: Any) -> AfterMatch:
            return AfterMatch.to_first(str(parts[0]))

        def to_last(self, meta: Any, parts: Any) -> AfterMatch:
            return AfterMatch.to_last(str(parts[0]))

        def no_skip(self, meta: Any, parts: Any) -> AfterMatch:
            return AfterMatch.NO_SKIP

        def within(self, meta: Any, parts: Any) -> Any:
            return "within", milliseconds(str(parts[0]), name="WITHIN", minimum=1)

        def gap(self, meta: Any, parts: Any) -> Any:
            return "max_gap", milliseconds(str(parts[0]), name="MAX GAP", minimum=1)

        def define(self, meta: Any, parts: Any) -> Any:
            names = [name for name, _ in parts]
            if len(set(names)) < len(names):
                raise ConditionError("DEFINE names a step twice", text, meta.line, meta.column)
            return "conditions", dict(parts)

        def definition(self, meta: Any, parts: Any) -> Any:
            return str(parts[0]), parts[1]

        def condition(self, meta: Any, parts: Any) -> str:
            return text[meta.start_pos : meta.end_pos]

        def row(self, meta: Any, parts: Any) -> list[Element]:
            """The first element has what its surroundings say; relaxed, where they say nothing."""
            row = [parts[0]]
            for link, element in zip(parts[1::2], parts[2::2], strict=True):
                row.append(_linked(element, _LINKS[link]))
            return row

        def link(self, meta: Any, parts: Any) -> str:
            return str(parts[0]) if parts else ""

        def absent(self, meta: Any, parts: Any) -> Step:
            return Step(str(parts[0]), None, Contiguity.NOT_FOLLOWED_BY)

        def present(self, meta: Any, parts: Any) -> Element:
            element: Element = parts[0]
            if len(parts) > 1:
                element = _quantified(element, str(parts[1]), text, meta)
            return replace(element, until=parts[2]) if len(parts) > 2 else element

        def until(self, meta: Any, parts: Any) -> str:
            return str(parts[0])

        def step(self, meta: Any, parts: Any) -> Step:
            return Step(str(parts[0]), None, Contiguity.RELAXED)

        def group(self, meta: Any, parts: Any) -> Element:
            if len(parts) == 1:
                return Group(tuple(parts[0]), Contiguity.RELAXED)
            return AnyOf(tuple(Group(tuple(row), Contiguity.STRICT) for row in parts), Contiguity.RELAXED)

        def permutation(self, meta: Any, parts: Any) -> Permutation:
            between = _LINKS[""]
            if isinstance(parts[0], str):
                between = _LINKS[str(parts.pop(0))]
            if len(parts) > MOST_PERMUTED:
                raise ConditionError(f"a permutation of more than {MOST_PERMUTED}", text, meta.line, meta.column)
            first, *others = parts
            elements = (first, *(_linked(element, between) for element in others))
            return Permutation(elements, Contiguity.RELAXED, between)

    return ToPattern()


def _linked(element: Element, how: Contiguity) -> Element:
    if element.contiguity.negative:
        how = Contiguity.NOT_NEXT if how is Contiguity.STRICT else Contiguity.NOT_FOLLOWED_BY
    return replace(element, contiguity=how)


def _quantified(element: Element, loop: str, text: str, meta: Any) -> Element:
    """An element with its quantifier. A `?` behind it makes a step reluctant, without it is greedy, as in SQL."""
    mark = loop.lstrip("->")
    arrow = loop[: len(loop) - len(mark)]
    reluctant = len(mark) > 1 and mark.endswith("?")
    body = mark[:-1] if reluctant else mark
    if body == "?":
        if arrow:
            raise ConditionError(f"{arrow} belongs before a repetition", text, meta.line, meta.column)
        bare = _unwrapped(element)
        quantifier = replace(bare.quantifier, optional=True)
    else:
        bare = element
        minimum, maximum = _times(body)
        optional = minimum == 0
        quantifier = Quantifier(max(minimum, 1), maximum, optional, inner=_LINKS[arrow])
        if quantifier.maximum is not None and quantifier.maximum < quantifier.minimum:
            raise ConditionError(f"{body} asks for nothing", text, meta.line, meta.column)
    is_open = body in ("+", "*") or "," in body
    greedy = isinstance(bare, Step) and is_open and not reluctant
    return replace(bare, quantifier=replace(quantifier, greedy=greedy or quantifier.greedy))


def _unwrapped(element: Element) -> Element:
    """`(b{2})?` makes the repetition optional: no group of one. With further brackets it is one."""
    if isinstance(element, Group) and wraps_repetition(element):
        return replace(element.steps[0], contiguity=element.contiguity)
    return element


def wraps_repetition(element: Element) -> bool:
    """Whether it is a group of nothing but a repetition, be it in further such groups."""
    if not isinstance(element, Group) or len(element.steps) != 1 or element.quantifier.repeats:
        return False
    only = element.steps[0]
    return (only.quantifier.repeats and not only.quantifier.optional) or (
        wraps_repetition(only) and not only.quantifier.optional
    )


def _times(body: str) -> tuple[int, int | None]:
    if body in ("+", "*"):
        return (1 if body == "+" else 0), None
    low, comma, high = body[1:-1].partition(",")
    return int(low), (int(high) if high else None) if comma else int(low)
