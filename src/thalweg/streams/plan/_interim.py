"""Until the function compiler is in place: expressions as they are, everything else per row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import polars as pl


@dataclass
class Results:
    values: list[Any] = field(default_factory=list)
    errors: list[tuple[int, Exception]] = field(default_factory=list)


@dataclass
class Interim:
    exprs: Any
    function: Callable[[Any], Any] | None = None
    reason: str = ""

    @property
    def vectorised(self) -> bool:
        return self.function is None

    @property
    def columns(self) -> frozenset[str] | None:
        return frozenset(self.exprs.meta.root_names()) if self.vectorised else None

    def describe(self) -> str:
        return f"{self.exprs} [vectorised]" if self.vectorised else f"per row: {self.reason}"

    def evaluate_rows(self, frame: pl.DataFrame) -> Results:
        results = Results()
        assert self.function is not None
        for number, row in enumerate(iter_rows(frame, ())):
            try:
                results.values.append(self.function(row))
            except Exception as error:
                results.values.append(None)
                results.errors.append((number, error))
        return results


class Row(SimpleNamespace):
    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def iter_rows(frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[Any]:
    for values in frame.iter_rows(named=True):
        yield Row(**values)


def compile_function(fn: Any, *, purpose: str, schema: Any) -> Any:
    import narwhals as nw

    if isinstance(fn, nw.Expr):
        space: Any = nw.from_native(pl.DataFrame({"a": [1]}))._compliant_frame.__narwhals_namespace__()
        native: Any = fn._to_compliant_expr(space)
        fn = native.native
    if isinstance(fn, pl.Expr):
        return Interim(fn)
    return Interim(None, fn, "interim")
