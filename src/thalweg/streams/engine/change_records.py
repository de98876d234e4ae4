"""Change records of databases (Debezium's shape) as a changelog. No state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import CHANGE, DEAD, RESERVED, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.operator import Operator, OperatorContext

if TYPE_CHECKING:
    from thalweg.streams.plan.changes import ChangeRecordsNode

_OPERATIONS = {
    **dict.fromkeys(("c", "r", "create", "read", "insert", "I"), "insert"),
    **dict.fromkeys(("u", "update", "U"), "update"),
    **dict.fromkeys(("d", "delete", "D"), "delete"),
}


class ChangeRecords(Operator):
    """Creates and reads insert the row after, updates set it, deletes take away the row before.

    A record of another operation, or without the row that its operation needs, becomes a dead letter.
    """

    def __init__(self, operator_id: str, node: ChangeRecordsNode, context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.node = node
        self._topics: tuple[str, ...] = tuple(context.options.get("topics") or ())  # type: ignore[arg-type]

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        node, frame = self.node, batch.frame
        operation = pl.col(node.op).replace_strict(_OPERATIONS, default=None, return_dtype=pl.String)
        frame = frame.with_columns(operation.alias(CHANGE))
        row = (
            pl.when(pl.col(CHANGE) == "delete").then(_record(frame, node.before)).otherwise(_record(frame, node.after))
        )
        frame = frame.with_columns(row.alias(_ROW))
        good = pl.col(CHANGE).is_not_null() & pl.col(_ROW).is_not_null()
        yield from self._dead(frame.filter(~good), batch.frame.columns)
        kept = frame.filter(good)
        self.account.passed += kept.height
        if kept.height:
            reserved = [name for name in kept.columns if name in RESERVED and name != CHANGE]
            yield Batch(kept.select(_ROW, *reserved, CHANGE).unnest(_ROW))

    def _dead(self, rows: pl.DataFrame, columns: list[str]) -> Iterator[Batch]:
        if not rows.height:
            return
        self.account.dead += rows.height
        errors: list[RowError] = [
            (number, "NotAChange", self._why(row), {}) for number, row in enumerate(rows.iter_rows(named=True))
        ]
        yield Batch(dead_letters(rows.select(columns), errors, self.id, self._topics), DEAD)

    def _why(self, row: dict[str, object]) -> str:
        if row[CHANGE] is None:
            return f"operation {row[self.node.op]!r} is none of c, r, u, d"
        return f"operation {row[self.node.op]!r} without its row"


def _record(frame: pl.DataFrame, name: str) -> pl.Expr:
    """The column as a record, null where it is missing: a struct of nothing but nulls is no row."""
    if frame.schema[name] == pl.Null:
        return pl.lit(None)
    fields = pl.col(name).struct
    present = [fields.field(one.name).is_not_null() for one in frame.schema[name].fields]  # type: ignore[attr-defined]
    return pl.when(pl.col(name).is_not_null() & pl.any_horizontal(present)).then(pl.col(name))


_ROW = "__row"
