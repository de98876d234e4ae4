"""Where records without a key go: to one partition after the other, a request's worth each.

An idempotent librdkafka has one request per partition under way. What waits behind it keeps the broker's thread of the
client awake all the time: it looks again and again whether it may send (`docs/decisions/0007-…` has the profile). So
each partition gets what fills a request, and the next when that has come back; the rest waits as columns, where it
costs nothing. A partition whose broker is away holds one request's worth, not all that is buffered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.kafka._consume_api import partition_states
from thalweg.records import Int64s

_SMALLEST_REQUEST = 500_000
_HEAD = 1_000
"""Bytes of a request before its records, generously."""
_ASK_MS = 500
_AGAIN = 5.0
"""Seconds until a broker that did not answer is asked again; meanwhile librdkafka chooses."""
_AGE = 60.0
"""Seconds after which partitions that were added, or lost their leader, are noticed."""
_PIPELINE = 3
"""Requests' worths under way that keep client and broker busy, where a topic has fewer partitions."""


@dataclass(slots=True)
class Lane:
    """A partition; `room` is in bytes of a request."""

    number: int
    partition: int
    room: int = 0


NO_LANE = Lane(0, -1)
"""librdkafka chooses the partition."""


class TopicLanes:
    """The partitions of one topic that have a leader. Not for several threads at once.

    Args:
        lanes: number and partition of each.
        returned: bytes that came back from each lane, by its number; others count it up.
        given: bytes that were handed over; counted up here.
        request: bytes of a request.
        linger: seconds after which the next partition has its turn, also when a request is not full.
    """

    def __init__(
        self, lanes: Sequence[tuple[int, int]], returned: Int64s, given: Int64s, request: int, linger: float
    ) -> None:
        self._lanes = [Lane(number, partition) for number, partition in lanes]
        self._numbers = np.array([lane.number for lane in self._lanes], dtype=np.int64)
        self._returned = returned
        self._given = given
        self._request = max(request, _SMALLEST_REQUEST) - _HEAD
        self._linger = linger
        self._depth = -(-_PIPELINE // len(lanes)) if len(lanes) < _PIPELINE else 1
        self._at = 0
        self._turn = 0  # bytes that the current lane got since it became that
        self._since = 0.0

    def choose(self, wait: Callable[[], None]) -> Lane:
        """The lane for the next records; `wait` is called until one has room."""
        now = time.monotonic()
        if now - self._since < self._linger and self._turn < self._request // 2:
            return self._offer(self._at, self._request - self._turn)
        while True:
            away = self._given[self._numbers] - self._returned[self._numbers]
            order = (np.arange(len(self._lanes)) + self._at + 1) % len(self._lanes)
            best = int(order[np.argmin(away[order])])
            free = away[best] <= (self._depth - 1) * self._request
            if free or int(away.sum()) < len(self._lanes) * self._depth * self._request // 2:
                self._at, self._turn, self._since = best, 0, now
                return self._offer(best, self._request)
            wait()

    def sent(self, lane: Lane, size: int, *, full: bool) -> None:
        """Counts what was handed over; `full`: as many records as a request takes."""
        self._turn += self._request if full else size
        self._given[lane.number] += size

    def _offer(self, at: int, room: int) -> Lane:
        lane = self._lanes[at]
        lane.room = room
        return lane


class Lanes:
    """The lanes of a producer's topics, by what the broker says of their partitions.

    Args:
        client: the producer's handle.
        returned: bytes that came back from each lane, by its number.
        request, linger: as in `TopicLanes`.
    """

    def __init__(self, client: int, returned: Int64s, request: int, linger: float) -> None:
        self._client = client
        self._returned = returned
        self._given = np.zeros(len(returned), dtype=np.int64)
        self._request = request
        self._linger = linger
        self._numbers: dict[tuple[str, int], int] = {}
        self._topics: dict[str, tuple[float, TopicLanes | None]] = {}

    def of(self, name: str, topic: int) -> TopicLanes | None:
        """The lanes of a topic; None where the broker does not answer at once, or there are too many partitions.

        Args:
            topic: an rd_kafka_topic_t.
        """
        until, lanes = self._topics.get(name, (0.0, None))
        if time.monotonic() < until:
            return lanes
        code, states = partition_states(self._client, topic, _ASK_MS)
        led = [state.partition for state in states if state.leader >= 0]
        if code or not led or len(self._numbers) + len(led) >= len(self._returned):
            self._topics[name] = time.monotonic() + _AGAIN, None
            return None
        known = self._numbers
        pairs = [(known.setdefault((name, partition), len(known) + 1), partition) for partition in led]
        made = TopicLanes(pairs, self._returned, self._given, self._request, self._linger)
        self._topics[name] = time.monotonic() + _AGE, made
        return made

    def forget(self, name: str) -> None:
        """Asks again the next time."""
        self._topics.pop(name, None)
