"""Requests asked again while the cluster settles: a topic just made, a leader or coordinator on its way elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

PASSING = frozenset({3, 5, 6, 7, 14, 15, 16, 74, 75, 76, 88, -185, -187, -188, -190, -195})
"""Unknown topic or partition (also what a topic just made looks like), no or another leader, request timed out,
coordinator loading, unavailable or elsewhere, leader epoch fenced or unknown, unstable offset; librdkafka's own: timed
out, all brokers down, unknown topic or partition, transport failure."""
_PAUSE = 0.1


def until_settled(ask: Callable[[int], int], timeout_ms: int, passing: frozenset[int] = PASSING) -> int:
    """Calls `ask(remaining milliseconds)` until it returns 0, an error that waiting does not mend, or time is up."""
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        code = ask(max(1, int((deadline - time.monotonic()) * 1000)))
        if code not in passing or time.monotonic() + _PAUSE >= deadline:
            return code
        time.sleep(_PAUSE)
