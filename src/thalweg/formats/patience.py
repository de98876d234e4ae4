"""Waiting for what a decoder lacks: when to ask again, and that the log says so."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from thalweg.errors import NotReady
from thalweg.records import Decoder

logger = logging.getLogger("thalweg.formats")

_FIRST, _LONGEST = 0.25, 10.0
_SAY_AGAIN = 30.0
ANSWER_WITHIN = 1.0
"""Seconds for which a caller that has other partitions to serve waits for what one lacks."""


class Patience:
    """Asks again ever more rarely, every ten seconds in the end.

    Args:
        topic: whose records wait, for the log.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._since: float | None = None
        self._pause = _FIRST
        self._next = 0.0
        self._said = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until it is worth asking again; 0: now."""
        return max(0.0, self._next - time.monotonic())

    @property
    def is_waiting(self) -> bool:
        """Whether something is lacked."""
        return self._since is not None

    def lacks(self, error: NotReady, partitions: Sequence[int]) -> None:
        """It was asked for, and could not be had: these partitions wait."""
        now = time.monotonic()
        if self._since is None:
            self._since = self._said = now
            logger.warning("topic %r: %s, nothing is lost: %s", self._topic, _who(partitions), error)
        elif now - self._said >= _SAY_AGAIN:
            self._said = now
            since = now - self._since
            logger.warning("topic %r: %s, for %.0f s by now: %s", self._topic, _who(partitions), since, error)
        self._next = now + self._pause
        self._pause = min(_LONGEST, 2 * self._pause)

    def came(self) -> None:
        """It is there."""
        if self._since is not None:
            logger.warning("topic %r goes on after %.1f s", self._topic, time.monotonic() - self._since)
        self._since, self._pause, self._next = None, _FIRST, 0.0


def _who(partitions: Sequence[int]) -> str:
    named = ", ".join(map(str, partitions))
    return f"partition {named} waits" if len(partitions) == 1 else f"partitions {named} wait"


def serves_others(decoder: Decoder) -> None:
    """Tells a decoder that its caller has other partitions to serve: it is to raise `NotReady` after a second at most,
    where it would wait for an answer from outside for as long as its own settings allow."""
    if hasattr(decoder, "answer_within"):
        decoder.answer_within = ANSWER_WITHIN
