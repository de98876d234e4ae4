"""Aggregates as columnar monoids (see `monoid`): the contract, the basic ones, and their spellings."""

from thalweg.streams.aggregate.basic import Average, Collect, Count, Extremum, Total, Variance
from thalweg.streams.aggregate.counting import ApproxDistinct, TopItems
from thalweg.streams.aggregate.custom import Custom, Fields, Fold, reducer
from thalweg.streams.aggregate.items import Distinct, ExactQuantile, Quantile
from thalweg.streams.aggregate.monoid import Aggregate, Input, Itemised, Part, Scalar
from thalweg.streams.aggregate.order import BitAggregate, FirstOrLast, MovingAverage
from thalweg.streams.aggregate.pairs import Correlation, Covariance, Regression
from thalweg.streams.aggregate.parts import warm_up
from thalweg.streams.aggregate.plan import AggregatePlan, Table
from thalweg.streams.aggregate.spelling import computed_inputs, to_aggregate, to_aggregates, to_input

__all__ = [
    "Aggregate",
    "AggregatePlan",
    "ApproxDistinct",
    "Average",
    "BitAggregate",
    "Collect",
    "Correlation",
    "Count",
    "Covariance",
    "Custom",
    "Distinct",
    "ExactQuantile",
    "Extremum",
    "Fields",
    "FirstOrLast",
    "Fold",
    "Input",
    "Itemised",
    "MovingAverage",
    "Part",
    "Quantile",
    "Regression",
    "Scalar",
    "Table",
    "TopItems",
    "Total",
    "Variance",
    "computed_inputs",
    "reducer",
    "to_aggregate",
    "to_aggregates",
    "to_input",
    "warm_up",
]
