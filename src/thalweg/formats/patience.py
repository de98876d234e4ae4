"""Waiting for what a decoder lacks: when to ask again, and that the log says so."""

from __future__ import annotations

import logging
import time

from thalweg.errors import NotReady

logger = logging.getLogger("thalweg.formats")

_FIRST, _LONGEST = 0.25, 10.0
_SAY_AGAIN = 30.0


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

    def lacks(self, error: NotReady) -> None:
        """It was asked for, and could not be had."""
        now = time.monotonic()
        if self._since is None:
            self._since = self._said = now
            logger.warning("topic %r waits, nothing is lost: %s", self._topic, error)
        elif now - self._said >= _SAY_AGAIN:
            self._said = now
            logger.warning("topic %r has waited for %.0f s: %s", self._topic, now - self._since, error)
        self._next = now + self._pause
        self._pause = min(_LONGEST, 2 * self._pause)

    def came(self) -> None:
        """It is there."""
        if self._since is not None:
            logger.warning("topic %r goes on after %.1f s", self._topic, time.monotonic() - self._since)
        self._since, self._pause, self._next = None, _FIRST, 0.0
