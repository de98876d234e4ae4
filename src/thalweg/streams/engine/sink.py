"""Rows on their way to a topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from thalweg.errors import PlanError
from thalweg.streams.batch import TIMESTAMP, Batch
from thalweg.streams.connector import SinkWrite
from thalweg.streams.engine.outputs import outputs_of
from thalweg.streams.operator import Operator, OperatorContext

if TYPE_CHECKING:
    from thalweg.streams.plan.sink import SinkNode


class Sink(Operator):
    """Hands rows to the commit pipeline; a record's time is its event time (where it holds one row).

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
        if self.packs_rows and node.key is not None:
            raise PlanError(
                f"to {node.topic!r}: format {str(node.format)!r} packs many rows into one record, which can't have the "
                f"key {node.key!r} of each; leave key out, or use json"
            )
        self.key_column = None if self.packs_rows else node.key or (keys[0] if len(keys) == 1 else None)
        self._outputs = outputs_of(context)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Sends the rows out."""
        self.account.received += len(batch)
        self.account.passed += len(batch)
        frame = batch.user_frame()
        key = self.key_column if self.key_column in frame.columns else None
        has_times = TIMESTAMP in batch.frame.columns and not self.packs_rows
        timestamps = batch.frame.get_column(TIMESTAMP) if has_times else None
        self._outputs.write(SinkWrite(self.topic, frame, self.encoder, key, timestamps))
        return ()
