"""What leaves a running plan, and who takes it: the runner and the test driver each have their own."""

from __future__ import annotations

from typing import Protocol, cast

import polars as pl

from thalweg.streams.connector import SinkWrite
from thalweg.streams.operator import OperatorContext


class Outputs(Protocol):
    """Takes what operators send out of the plan."""

    def write(self, write: SinkWrite) -> None:
        """Rows for a topic."""

    def dead(self, frame: pl.DataFrame) -> None:
        """Dead letters: `DEAD_LETTER_SCHEMA`."""

    def late(self, operator_id: str, topics: tuple[str, ...], frame: pl.DataFrame) -> None:
        """Late rows of an operator that reads from these topics."""

    def captured(self, name: str, frame: pl.DataFrame) -> None:
        """Rows of a stream that the test driver watches, reserved columns and all."""


def outputs_of(context: OperatorContext) -> Outputs:
    """The outputs that the engine put into the context."""
    return cast(Outputs, context.options["outputs"])


def topics_of(context: OperatorContext) -> tuple[str, ...]:
    """The source topics upstream of the operator, by source index."""
    return cast("tuple[str, ...]", context.options.get("topics", ()))
