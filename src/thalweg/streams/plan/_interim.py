"""Expressions only, until the function compiler is in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass
class PlainExpression:
    exprs: Any
    vectorised: bool = True
    reason: str = ""

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self.exprs.meta.root_names())

    def describe(self) -> str:
        return f"{self.exprs} [vectorised]"


def compile_function(fn: Any, *, purpose: str, schema: Any) -> Any:
    import narwhals as nw

    if isinstance(fn, nw.Expr):
        space = nw.from_native(pl.DataFrame({"a": [1]}))._compliant_frame.__narwhals_namespace__()
        fn = fn._to_compliant_expr(space).native
    if isinstance(fn, pl.Expr):
        return PlainExpression(fn)
    raise NotImplementedError("functions are compiled by thalweg.expressions, which is not there yet")
