"""The public language of functions: expressions (Narwhals, the Polars API), traced lambdas, per-row callables."""

from narwhals import (
    all_horizontal,
    any_horizontal,
    coalesce,
    col,
    concat_str,
    lit,
    max_horizontal,
    mean_horizontal,
    min_horizontal,
    sum_horizontal,
    when,
)

from thalweg.expressions.compiled import CompiledFunction, compile_function
from thalweg.expressions.native import is_expression, to_polars
from thalweg.expressions.per_row import RowResults
from thalweg.expressions.rows import Row, iter_rows

__all__ = [
    "CompiledFunction",
    "Row",
    "RowResults",
    "all_horizontal",
    "any_horizontal",
    "coalesce",
    "col",
    "compile_function",
    "concat_str",
    "is_expression",
    "iter_rows",
    "lit",
    "max_horizontal",
    "mean_horizontal",
    "min_horizontal",
    "sum_horizontal",
    "to_polars",
    "when",
]
