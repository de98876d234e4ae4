"""`compile_function`: what users hand to `filter`, `map` and the like, made ready to run."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Literal

import polars as pl

from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions import bytecode
from thalweg.expressions.native import is_expression, to_polars
from thalweg.expressions.proxy import EventProxy, FieldProxy, UnknownField, term_of
from thalweg.expressions.rows import Row, iter_rows
from thalweg.expressions.terms import NotTraceable

Purpose = Literal["predicate", "value", "row", "rows"]
_INT64 = range(-(2**63), 2**63)


@dataclass(slots=True)
class RowResults:
    """What a per-row function gave: one value per row, and the rows on which it raised (their value is None)."""

    values: list[Any]
    errors: list[tuple[int, Exception]] = field(default_factory=list)


@dataclass(frozen=True)
class CompiledFunction:
    """A user's function, vectorised where its meaning allows it.

    Attributes:
        vectorised: whether it runs on columns.
        exprs: the expression (predicate, value), or one per output column (row); None where it runs per row.
        reason: why it runs per row.
        columns: the columns that it reads; None where that can't be known.
        purpose: what it is used for.
    """

    purpose: Purpose
    name: str
    exprs: pl.Expr | dict[str, pl.Expr] | None
    columns: frozenset[str] | None
    reason: str = ""
    callable: Callable[[Row], Any] | None = None

    @property
    def vectorised(self) -> bool:
        return self.exprs is not None

    def describe(self) -> str:
        """For `explain()`.

        >>> compile_function(lambda e: e.amount > 3, purpose="predicate", schema=None).describe()
        '[(col("amount")) > (3)] [vectorised]'
        """
        if isinstance(self.exprs, dict):
            return ", ".join(f"{name}={expr}" for name, expr in self.exprs.items()) + " [vectorised]"
        if self.exprs is not None:
            return f"{self.exprs} [vectorised]"
        return f"{self.name} [per row: {self.reason}]"

    def evaluate_rows(self, frame: pl.DataFrame, keys: Sequence[str] = ()) -> RowResults:
        """Calls the function with each row. Also works for vectorised functions that were given as callables.

        A TypeError because of a null operand, and a division by zero, give null, as they do on columns; so does an
        integer beyond Int64. Any other exception is that row's error.
        """
        if self.callable is None:
            raise ConfigurationError(f"{self.name} is an expression; it has no per-row form")
        values: list[Any] = []
        errors: list[tuple[int, Exception]] = []
        for number, row in enumerate(iter_rows(frame, keys)):
            try:
                values.append(_fitting(self.callable(row)))
            except ZeroDivisionError:
                values.append(None)
            except Exception as error:
                values.append(None)
                if not (isinstance(error, (TypeError, AttributeError)) and _null_to_blame(self.callable, row)):
                    errors.append((number, error))
        return RowResults(values, errors)


def compile_function(fn: Any, *, purpose: Purpose, schema: pl.Schema | Mapping[str, Any] | None) -> CompiledFunction:
    """Makes a function ready to run: an expression as it is, a lambda traced into one, anything else per row.

    Args:
        fn: an expression, the name of a column (value), a mapping of names to expressions (row), or a callable that
            takes one event.
        purpose: "predicate" (filter), "value" (one value), "row" (map to a record), "rows" (flat_map).
        schema: the columns of the event, where known; tracing arithmetic needs it.

    Raises:
        ConfigurationError: not callable, or it can only run per row and uses `~`, which on Python's bools is not `not`.
        PlanError: it reads a field that the schema does not have.
    """
    known = pl.Schema(schema) if schema is not None else None
    if is_expression(fn) or (isinstance(fn, str) and purpose == "value"):
        expr = to_polars(fn)
        return CompiledFunction(purpose, str(fn), expr, frozenset(expr.meta.root_names()))
    if isinstance(fn, Mapping) and purpose == "row":
        return _of_mapping(fn, known)
    if not callable(fn):
        raise ConfigurationError(f"{fn!r} is neither an expression nor a callable")
    name = _name(fn)
    exprs, seen, reason = _trace(fn, purpose, known, name)
    if exprs is not None:
        return CompiledFunction(purpose, name, exprs, frozenset(seen), callable=fn)
    _refuse_invert(fn, name, reason)
    return CompiledFunction(purpose, name, None, None, reason, fn)


def _of_mapping(fn: Mapping[str, Any], schema: pl.Schema | None) -> CompiledFunction:
    parts = {name: compile_function(part, purpose="value", schema=schema) for name, part in fn.items()}
    slow = [f"{name}: {part.reason}" for name, part in parts.items() if not part.vectorised]
    if slow:
        raise ConfigurationError(f"a mapping of expressions can't hold a per-row function ({'; '.join(slow)})")
    columns = frozenset[str]().union(*(part.columns or frozenset() for part in parts.values()))
    return CompiledFunction("row", "mapping", {n: p.exprs for n, p in parts.items()}, columns)  # type: ignore[misc]


def _trace(
    fn: Callable[..., Any], purpose: Purpose, schema: pl.Schema | None, name: str
) -> tuple[pl.Expr | dict[str, pl.Expr] | None, set[str], str]:
    """The expressions and the columns they read, or why there are none."""
    if purpose == "rows":
        return None, set(), "flat_map makes any number of rows"
    if not isinstance(fn, FunctionType):
        return None, set(), f"{name} is not a plain function"
    reason = bytecode.why_not(fn.__code__, outer=fn.__globals__)
    traced: Callable[..., Any] | None = fn
    if reason is not None:
        traced = bytecode.rewritten(fn)
        if traced is None:
            return None, set(), reason
    seen: set[str] = set()
    try:
        assert traced is not None
        result = traced(EventProxy(schema, seen))
        return _expressions(result, purpose), seen, ""
    except NotTraceable as error:
        return None, set(), str(error)
    except UnknownField as error:
        have = ", ".join(schema or ())
        raise PlanError(
            f"{name} reads the field {error.args[0]!r}, which the events do not have; they have {have}"
        ) from None
    except Exception as error:
        return None, set(), f"{type(error).__name__} while tracing: {error}"


def _expressions(result: Any, purpose: Purpose) -> pl.Expr | dict[str, pl.Expr]:
    if purpose == "row":
        if not isinstance(result, dict):
            raise NotTraceable("it does not return a dict display")
        if not all(isinstance(key, str) for key in result):
            raise NotTraceable("its dict has keys that are no texts")
        return {key: _value(value) for key, value in result.items()}
    if purpose == "predicate":
        term = term_of(result)
        if term.kind not in ("bool", None):
            raise NotTraceable(f"it returns {term.kind}, whose truth Python decides")
        return term.predicate()
    return _value(result)


def _value(value: Any) -> pl.Expr:
    if not isinstance(value, FieldProxy) and value is not None and not isinstance(value, (bool, int, float, str)):
        raise NotTraceable(f"a value of type {type(value).__name__}")
    return term_of(value).result()


def _refuse_invert(fn: Any, name: str, reason: str) -> None:
    code = getattr(fn, "__code__", None)
    if code is not None and any(i.opname == "UNARY_INVERT" for i in dis.get_instructions(code)):
        raise ConfigurationError(
            f"{name} uses `~` and can't run on columns ({reason}); run per row, `~True` is -2, which counts as true. "
            "Write `not`, or use an expression"
        )


def _fitting(value: Any) -> Any:
    """Integers beyond Int64 are null, as they are on columns."""
    if type(value) is int:
        return value if value in _INT64 else None
    if type(value) is dict:
        return {key: _fitting(item) for key, item in value.items()}
    return value


class _Watched(Row):
    """A row that notes whether a null was taken from it."""

    __slots__ = ("_nulls",)
    _nulls: list[str]

    def __init__(self, row: Row, nulls: list[str]) -> None:
        super().__init__(row._fields, row._keys, row._timestamp)
        object.__setattr__(self, "_nulls", nulls)

    def __getitem__(self, name: str) -> Any:
        return self._noted(name, super().__getitem__(name))

    def __getattr__(self, name: str) -> Any:
        return self._noted(name, super().__getattr__(name))

    def _noted(self, name: str, value: Any) -> Any:
        if value is None:
            self._nulls.append(name)
        return _Watched(value, self._nulls) if isinstance(value, Row) else value


def _null_to_blame(fn: Callable[[Row], Any], row: Row) -> bool:
    """Whether the function raised after it had taken a null from the row: it is asked once more, and watched."""
    nulls: list[str] = []
    try:
        fn(_Watched(row, nulls))
    except (TypeError, AttributeError):
        return bool(nulls)
    except Exception:
        return False
    return False


def _name(fn: Callable[..., Any]) -> str:
    code = getattr(fn, "__code__", None)
    if code is None:
        return getattr(fn, "__name__", type(fn).__name__)
    where = inspect.getfile(fn).rsplit("/", 1)[-1] if not code.co_filename.startswith("<") else code.co_filename
    return f"{fn.__name__} ({where}:{code.co_firstlineno})"
