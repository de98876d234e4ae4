"""Analytics on streams: aggregates for windows."""

from thalweg.analytics.aggregates import (
    average,
    collect,
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
    "collect",
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
