"""`Condition`: a textual condition, parsed once, compiled for each schema of events."""

from __future__ import annotations

from functools import lru_cache

import polars as pl

from thalweg.cep.conditions.compiler import Compiler
from thalweg.cep.conditions.errors import ConditionError
from thalweg.cep.conditions.syntax import LONGEST, Term, parse
from thalweg.expressions import CompiledFunction

__all__ = ["Condition", "ConditionError"]


class Condition:
    """A condition on an event as text, in a safe subset of CEL: it can compute and compare, and do nothing else.

    It is read when it is made; `compile` makes an expression of it. See docs/rules.md for the language.

    Raises:
        ConditionError: the text can't be read; it says where.
        MissingExtraError: Lark is not installed (`pip install 'thalweg[rules]'`).

    >>> condition = Condition("amount > 10000 && country in ['DE', 'FR']")
    >>> condition.matches(pl.DataFrame({"amount": [20000, 5], "country": ["DE", "FR"]})).to_list()
    [True, False]
    """

    __slots__ = ("text", "tree")

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree: Term = _parsed(text)

    @classmethod
    def of_tree(cls, text: str, tree: Term) -> Condition:
        """A part of a condition that has been read; `text` is the whole."""
        part = cls.__new__(cls)
        part.text, part.tree = text, tree
        return part

    def expression(self, schema: pl.Schema | None = None) -> pl.Expr:
        """The condition over columns.

        Raises:
            ConditionError: it reads a column that `schema` does not have, or types don't go together.
        """
        try:
            expression = Compiler(self.text, schema).predicate(self.tree)
        except RecursionError:
            raise ConditionError("it is nested too deeply", self.text[:80], 1, 1) from None
        if schema is not None:
            self._check(expression, schema)
        return expression

    def _check(self, expression: pl.Expr, schema: pl.Schema) -> None:
        """Runs it over no rows: the engine knows types that this language does not tell apart."""
        try:
            pl.DataFrame(schema=schema).select(expression)
        except pl.exceptions.PolarsError as error:
            reason = f"it does not fit the columns: {str(error).splitlines()[0]}"
            raise ConditionError(reason, self.text, 1, 1) from error

    def compile(self, schema: pl.Schema | None = None) -> CompiledFunction:
        """The condition as steps of a stream take it."""
        expression = self.expression(schema)
        return CompiledFunction("predicate", self.text, expression, frozenset(expression.meta.root_names()))

    def matches(self, frame: pl.DataFrame) -> pl.Series:
        """For each row whether the condition holds; null counts as false."""
        result = frame.select(self.expression(frame.schema).fill_null(False).alias("matches")).to_series()
        return result if result.len() == frame.height else result.new_from_index(0, frame.height)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Condition({self.text!r})"


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> Term:
    if len(text) > LONGEST:
        raise ConditionError(f"a condition has at most {LONGEST} characters", text[:80], 1, 1)
    return parse(text)
