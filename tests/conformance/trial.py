"""A test driver that a case runs on, and what happens to it on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, Literal, TypeVar

import polars as pl

from thalweg.streams import App, DataStream
from thalweg.streams.testing import Snapshot, TestDriver

Fault = Literal["crash", "rescale"] | None
"""crash: everything but the committed state is lost on the way; rescale: so it is, and the job goes on with another
number of workers: from 1 without an exchange to 3, to 2, to 3 and so on."""
PARTITIONS = 4
"""Of the exchange: three workers and two have unequal shares of them."""
Row = TypeVar("Row")


class Trial:
    """A driver that can be interrupted.

    Args:
        targets: as for the driver.
    """

    def __init__(self, *targets: DataStream | App, batch_size: int | None, fault: Fault = None) -> None:
        scaled: dict[str, Any] = {"exchange": PARTITIONS, "workers": 1} if fault == "rescale" else {}
        self.driver = TestDriver(*targets, batch_size=batch_size, **scaled)
        self._fault = fault
        self._saved: list[Snapshot] = []
        self._workers = cycle([3, 2])

    def interrupt(self) -> None:
        """Commits, and loses what is not committed; nothing without a fault."""
        if self._fault is None:
            return
        self._saved.append(self.driver.snapshot())
        self.driver.restore(*self._saved, workers=next(self._workers) if self._fault == "rescale" else None)

    def send(self, rows: Sequence[Any], *, source: str | None = None) -> None:
        """Sends rows, interrupted half way (a rescale: twice on the way)."""
        for part in self.parts(rows):
            self.driver.send(part, source=source)

    def parts(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """The rows in pieces, with an interruption before each but the first."""
        count = {None: 1, "crash": 2, "rescale": 3}[self._fault]
        for number in range(count):
            if number:
                self.interrupt()
            yield rows[len(rows) * number // count : len(rows) * (number + 1) // count]

    def output(self, stream: DataStream | None = None, *, reserved: bool = False) -> pl.DataFrame:
        """What came out since the last call."""
        return self.driver.output(stream, reserved=reserved)
