"""Two threads that wait for one producer's records: neither counts what is not closed yet."""

from __future__ import annotations

import time
from typing import Any

from thalweg.kafka._delivering import Delivering


class Overtaken(Delivering):
    """Between any two looks of this thread the other one has come one generation further."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.asked: list[int] = []
        self._deliveries: Any = self
        self._stall: Any = self
        self.reason = None

    @property
    def _waited(self) -> int:
        self.others += 1
        return self.others - 1

    @_waited.setter
    def _waited(self, waited: int) -> None:
        self.others = max(self.others, waited)

    def drain(self, timeout_ms: int, generation: int | None) -> bool:
        assert generation is not None
        self.asked.append(generation)
        return True

    def take_failures(self) -> list[Any]:
        return []

    def _raise_fatal(self) -> None: ...


def test_what_is_not_closed_is_never_asked_for() -> None:
    """Asked for an open generation, which has no records yet, `drain` finds all of them delivered."""
    for others in range(1, 6):
        waiting = Overtaken(others)
        waiting._wait(5, time.monotonic() + 10, hurry=False)
        assert all(generation <= 5 for generation in waiting.asked)
