"""Aggregates as columnar monoids (see `monoid`): the contract, the basic ones, and their spellings."""

from thalweg.streams.aggregate.basic import Average, Collect, Count, Extremum, Total, Variance
from thalweg.streams.aggregate.items import Distinct, ExactQuantile, Quantile
from thalweg.streams.aggregate.monoid import Aggregate, Input, Itemised, Part, Scalar
from thalweg.streams.aggregate.parts import warm_up
from thalweg.streams.aggregate.plan import AggregatePlan, Table
from thalweg.streams.aggregate.spelling import computed_inputs, to_aggregate, to_aggregates, to_input

__all__ = [
    "Aggregate",
    "AggregatePlan",
    "Average",
    "Collect",
    "Count",
    "Distinct",
    "ExactQuantile",
    "Extremum",
    "Input",
    "Itemised",
    "Part",
    "Quantile",
    "Scalar",
    "Table",
    "Total",
    "Variance",
    "computed_inputs",
    "to_aggregate",
    "to_aggregates",
    "to_input",
    "warm_up",
]
