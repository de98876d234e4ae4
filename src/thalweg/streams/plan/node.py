"""What every node of the logical plan is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import polars as pl

from thalweg.streams.operator import Operator, OperatorContext


class Mode(StrEnum):
    """What the rows of an edge mean."""

    APPEND = "append"
    CHANGELOG = "changelog"


@dataclass(frozen=True, eq=False)
class Node:
    """A step of the plan. Subclasses are frozen dataclasses; a node never changes after it was appended.

    Other packages (CEP, alerts, enrichment) add steps by subclassing: the engine only calls what is here.
    """

    inputs: tuple[Node, ...] = field(default=(), kw_only=True)
    input_ports: tuple[str, ...] = field(default=(), kw_only=True)
    """Which output port of each input this node reads; empty: `MAIN` of each."""
    uid: str | None = field(default=None, kw_only=True)
    """The stable operator id that the user gave with `.uid("…")`; None: made from kind and place."""

    @property
    def kind(self) -> str:
        """A short lower-case name, such as "filter"."""
        return type(self).__name__.removesuffix("Node").lower()

    def describe(self) -> str:
        """One line for `explain()`: what it does and, where it has functions, how each runs."""
        return self.kind

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        """The user's columns after this step; None where it can't be known before data comes."""
        return inputs[0] if inputs else None

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        """Whether the output appends or changes."""
        return inputs[0] if inputs else Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        """Which input columns it needs, given which output columns are wanted; None: all (or not known)."""
        return None

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        """The columns by which the output is keyed."""
        return inputs[0] if inputs else ()

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        """By which columns the rows of each input must meet, where the step keeps state: its state is laid out by them.

        Args:
            inputs: the key columns of each input.
        """
        return inputs

    @property
    def stateful(self) -> bool:
        return False

    def signature(self) -> dict[str, Any]:
        """What the saved state depends on, as plain data: where one of these items differs, it can't be taken over."""
        return {"kind": self.kind}

    @property
    def has_effect(self) -> bool:
        """Whether the step does something outside the stream (writes, calls a subscriber, raises alerts).

        A plan needs at least one such step; steps that lead to none are left out.
        """
        return False

    def build(self, context: OperatorContext) -> Operator:
        """Makes the running operator for the local engine."""
        raise NotImplementedError(f"{type(self).__name__} is lowered by the engine itself")


def input_schema(node: Node) -> pl.Schema | None:
    """The user's columns of a node's first input, for `describe`; None where they can't be known before data comes."""
    if not node.inputs or any(port != "main" for port in node.input_ports):
        return None
    return _schema(node.inputs[0])


def _schema(node: Node) -> pl.Schema | None:
    return node.output_schema(tuple(_schema(upstream) for upstream in node.inputs))
