"""Rows on their way to users' functions, and to the test driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from thalweg.streams.batch import DEAD, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.engine.outputs import outputs_of, topics_of
from thalweg.streams.operator import Operator, OperatorContext

if TYPE_CHECKING:
    from thalweg.streams.plan.sink import SubscribeNode


class Subscribe(Operator):
    """Calls the user's function while the batch is processed, before its epoch is committed: at least once.

    An exception stops the job, or, with `on_error="dead-letter"`, makes a dead letter of the row (of all rows of the
    frame where the function takes frames).
    """

    def __init__(self, operator_id: str, node: SubscribeNode, context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.function = node.function
        self.frames = node.frames
        self.on_error = node.on_error
        self.keys = cast("Sequence[str]", context.options.get("key_columns", ()))
        self.topics = topics_of(context)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Calls the function with every row, or with the frame."""
        self.account.received += len(batch)
        errors = self._call_with_frame(batch) if self.frames else self._call_with_rows(batch)
        self.account.passed += len(batch) - len(errors)
        self.account.dead += len(errors)
        if errors:
            yield Batch(dead_letters(batch.frame, errors, self.id, self.topics), DEAD)

    def _call_with_frame(self, batch: Batch) -> list[RowError]:
        try:
            self.function(batch.user_frame())
        except Exception as error:
            if self.on_error == "stop":
                raise
            return [row_error(row, error) for row in range(len(batch))]
        return []

    def _call_with_rows(self, batch: Batch) -> list[RowError]:
        errors: list[RowError] = []
        for number, row in enumerate(rows_of(batch, self.keys)):
            try:
                self.function(row)
            except Exception as error:
                if self.on_error == "stop":
                    raise
                errors.append(row_error(number, error))
        return errors


def rows_of(batch: Batch, keys: Sequence[str]) -> Iterator[Any]:
    """The rows of a batch as `Row` objects."""
    from thalweg.expressions import iter_rows

    return iter_rows(batch.frame, keys)


class Capture(Operator):
    """Keeps rows for the test driver."""

    def __init__(self, operator_id: str, name: str, context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.name = name
        self._keep: Callable[[str, pl.DataFrame], None] = outputs_of(context).captured

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Keeps the rows."""
        self.account.received += len(batch)
        self.account.passed += len(batch)
        self._keep(self.name, batch.frame)
        return ()
