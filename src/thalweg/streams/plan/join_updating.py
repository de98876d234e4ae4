"""The plan node of joins without bounds in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_types, expressions_of
from thalweg.streams.plan.join import JoinNode
from thalweg.streams.plan.join_columns import How
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.stateless import StatelessNode

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


def whole_rows(node: Node) -> bool:
    """Whether the changes that come out of a node are whole rows, inserted and deleted, with no key among them."""
    if isinstance(node, StatelessNode):
        return whole_rows(node.inputs[0])
    return bool(getattr(node, "gives_whole_rows", False))


@dataclass(frozen=True, eq=False, kw_only=True)
class UpdatingJoinNode(JoinNode):
    """Joins rows as they are now. Where neither side changes and no outer row can be taken back, it only appends."""

    left_keys: tuple[str, ...] | None
    """The key columns of the left side's changes; (): the one row, or whole rows; None: it only appends."""
    right_keys: tuple[str, ...] | None
    whole: tuple[bool, bool] = (False, False)
    """Whose changes are whole rows."""
    where: CompiledFunction | None = None
    """What pairs must fulfil besides (inner joins only)."""
    ttl: int | None = None

    def describe(self) -> str:
        where = f", where {self.where.describe()}" if self.where is not None else ""
        kept = "for ever" if self.ttl is None else f"for {self.ttl} ms of event time"
        return f"{self.how} join on {self.on_text()}{where}: rows as they are now, kept {kept} (vectorised)"

    @property
    def appends(self) -> bool:
        """Results are never taken back."""
        plain = self.left_keys is None and self.right_keys is None
        return plain and self.how in (How.INNER, How.SEMI)

    @property
    def gives_whole_rows(self) -> bool:
        """Its changes have no key but the whole row."""
        return not self.appends and not self.row_keys

    @property
    def row_keys(self) -> tuple[str, ...]:
        """The columns that make a changing result one and the same; none where only the whole row does."""
        if self.left_keys is None or self.whole[0]:
            return ()
        if self.how.left_only:  # with the columns that it is joined on, as by these a row has its place
            return tuple(dict.fromkeys([*self.left_keys, *self.left_on]))
        if self.right_keys is None or self.whole[1] or self.how in (How.RIGHT, How.FULL):
            return ()
        # A right key column keeps its name only where the left side has no such column; else the whole row counts.
        renamed = dict(zip(self.right_on, self.left_on, strict=True))
        if any(name not in renamed for name in self.right_keys):
            return ()
        return tuple(dict.fromkeys([*self.left_keys, *(renamed[name] for name in self.right_keys), *self.left_on]))

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return Mode.APPEND if self.appends else Mode.CHANGELOG

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.left_on if self.appends else self.row_keys

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        schema = super().output_schema(inputs)
        if schema is not None and self.where is not None:
            check_types(expressions_of(self.where), schema, f"{self.how} join, where")
        return schema

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        needs = super().required_columns(wanted)
        if needs is None or any(self.whole):
            return None
        where = frozenset(n for e in expressions_of(self.where) for n in e.meta.root_names()) if self.where else ()
        keys = {*(self.left_keys or ()), *(self.right_keys or ())}
        return needs | keys | {*where} | {name.removesuffix(self.suffix) for name in where}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.changing_rows import Changing
        from thalweg.streams.engine.join_updating import UpdatingJoin

        kinds = [
            Changing(keys, whole) for keys, whole in zip((self.left_keys, self.right_keys), self.whole, strict=True)
        ]
        where = expressions_of(self.where)[0] if self.where is not None else None
        columns = self.columns(tuple(context.input_schemas))
        return UpdatingJoin(context.operator_id, columns, kinds, where=where, ttl=self.ttl, changelog=not self.appends)
