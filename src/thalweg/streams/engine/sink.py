"""Rows on their way to a topic."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import CHANGE, DEAD, TIMESTAMP, Batch
from thalweg.streams.connector import SinkWrite
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.engine.outputs import outputs_of
from thalweg.streams.operator import Operator, OperatorContext

if TYPE_CHECKING:
    from thalweg.streams.plan.sink import SinkNode


class Sink(Operator):
    """Hands rows to the commit pipeline; a record's time is its event time (where it holds one row).

    With `upsert`, a delete becomes a record without a value; a row without a key can't replace another, and is a dead
    letter.

    Raises:
        PlanError: a key for a format that packs many rows into one record.
    """

    def __init__(self, operator_id: str, node: SinkNode, context: OperatorContext) -> None:
        from thalweg.formats import open_format

        super().__init__(operator_id)
        self.topic = node.topic
        self.encoder = open_format(node.format, node.topic).encoder()
        keys = cast("Sequence[str]", context.options.get("key_columns", ()))
        self.packs_rows = getattr(self.encoder, "packs_rows", False)
        if self.packs_rows and node.upsert:
            raise PlanError(
                f"to {node.topic!r}: format {str(node.format)!r} packs many rows into one record, none of which can be "
                "a delete; use json"
            )
        if self.packs_rows and node.key is not None:
            raise PlanError(
                f"to {node.topic!r}: format {str(node.format)!r} packs many rows into one record, which can't have the "
                f"key {node.key!r} of each; leave key out, or use json"
            )
        self.key_column = None if self.packs_rows else node.key or (keys[0] if len(keys) == 1 else None)
        self.upsert = node.upsert
        self._topics: tuple[str, ...] = tuple(context.options.get("topics") or ())  # type: ignore[arg-type]
        self._outputs = outputs_of(context)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        """Sends the rows out."""
        self.account.received += len(batch)
        if self.upsert:
            batch = yield from self._with_keys(batch)
        self.account.passed += len(batch)
        frame, gone = batch.user_frame(), None
        if self.upsert:
            # Always there, so that writes with and without deletes stay in their order.
            gone = (frame[CHANGE] == "delete") if CHANGE in frame.columns else pl.repeat(False, len(batch), eager=True)
            frame = frame.drop(CHANGE, strict=False)
        key = self.key_column if self.key_column in frame.columns else None
        has_times = TIMESTAMP in batch.frame.columns and not self.packs_rows
        timestamps = batch.frame.get_column(TIMESTAMP) if has_times else None
        self._outputs.write(SinkWrite(self.topic, frame, self.encoder, key, timestamps, gone=gone))

    def _with_keys(self, batch: Batch) -> Generator[Batch, None, Batch]:
        """The rows that have a key; gives the others to the dead letters."""
        frame = batch.frame
        keys = frame[self.key_column] if self.key_column in frame.columns else pl.Series([None] * frame.height)
        if not keys.null_count():
            return batch
        rows = frame.filter(keys.is_null())
        self.account.dead += rows.height
        errors: list[RowError] = [
            (row, "MissingKey", f"no {self.key_column!r} to replace a row by", {}) for row in range(rows.height)
        ]
        yield Batch(dead_letters(rows, errors, self.id, self._topics), DEAD)
        return Batch(frame.filter(keys.is_not_null()), batch.port)
