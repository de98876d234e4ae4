"""Analytics on streams: aggregates for windows."""

from thalweg.analytics.aggregates import (
    average,
    count,
    count_distinct,
    max_,
    min_,
    percentile,
    quantile,
    stddev,
    sum_,
    variance,
)

__all__ = [
    "average",
    "count",
    "count_distinct",
    "max_",
    "min_",
    "percentile",
    "quantile",
    "stddev",
    "sum_",
    "variance",
]
