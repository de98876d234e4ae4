"""Rows on their way to a topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from thalweg.streams.batch import TIMESTAMP, Batch
from thalweg.streams.connector import SinkWrite
from thalweg.streams.engine.outputs import outputs_of
from thalweg.streams.operator import Operator, OperatorContext

if TYPE_CHECKING:
    from thalweg.streams.plan.sink import SinkNode


class Sink(Operator):
    """Hands rows to the commit pipeline; a record's time is its event time."""

    def __init__(self, operator_id: str, node: SinkNode, context: OperatorContext) -> None:
        from thalweg.formats import open_format

        super().__init__(operator_id)
        self.topic = node.topic
        self.encoder = open_format(node.format).encoder()
        keys = cast("Sequence[str]", context.options.get("key_columns", ()))
        self.key_column = node.key or (keys[0] if len(keys) == 1 else None)
        self._outputs = outputs_of(context)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Sends the rows out."""
        self.account.received += len(batch)
        self.account.passed += len(batch)
        frame = batch.user_frame()
        key = self.key_column if self.key_column in frame.columns else None
        timestamps = batch.frame.get_column(TIMESTAMP) if TIMESTAMP in batch.frame.columns else None
        self._outputs.write(SinkWrite(self.topic, frame, self.encoder, key, timestamps))
        return ()
