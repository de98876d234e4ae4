"""Which partition records go to, and when: about a request's worth is under way to each.

An idempotent librdkafka has one request per partition under way. What waits behind it keeps the broker's thread of the
client awake all the time: it looks again and again whether it may send (`docs/decisions/0007-…` has the profile). So
each partition gets what fills a request, and the next when that has come back; the rest waits as columns, where it
costs nothing. Records without a key go to one partition after the other; those with one have theirs, and the rows of a
frame wait for it while others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.kafka import _produce_api as native
from thalweg.kafka._consume_api import partition_states
from thalweg.kafka._delivery import ProduceError
from thalweg.kafka._produce_kernels import LEAST_WEIGHT, RECORD_BYTES
from thalweg.kafka._send_columns import Records
from thalweg.kafka.partitioners import partitions_for
from thalweg.records import Int32s, Int64s

EVERYWHERE = 1 << 62
"""More room than there are records."""
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


class TopicLanes:
    """The partitions of one topic. Not for several threads at once.

    Args:
        numbers: a number for each partition, unique in the producer.
        led: the partitions that have a leader: records that may go anywhere go there.
        returned: weight (see `_produce_kernels`) that came back from each lane, by its number; others count it up.
        given: weight that was handed over; counted up here.
        request: bytes of a request.
        linger: seconds after which the next partition has its turn, also when a request is not full.
    """

    def __init__(
        self, numbers: Int64s, led: Sequence[int], returned: Int64s, given: Int64s, request: int, linger: float
    ) -> None:
        self.numbers = numbers
        self.stale = False
        """The topic has changed: ask again."""
        self._lanes = [Lane(int(numbers[partition]), partition) for partition in led]
        self._led = np.array(led, dtype=np.int32)
        self._returned = returned
        self._given = given
        self._request = max(request, _SMALLEST_REQUEST) - _HEAD
        self._linger = linger
        self._depth = -(-_PIPELINE // len(led)) if len(led) < _PIPELINE else 1
        self._at = 0
        self._turn = 0  # weight that the current lane got since it became that
        self._since = 0.0
        self._let_go = np.full(len(numbers), -1, dtype=np.int64)

    @property
    def partitions(self) -> int:
        """How many the topic has."""
        return len(self.numbers)

    # ---------------------------------------------------------------- records that may go anywhere

    def choose(self, wait: Callable[[], object]) -> Lane:
        """The lane for the next records; `wait` is called until one has room."""
        now = time.monotonic()
        if now - self._since < self._linger and self._turn < self._request // 2:
            return self._offer(self._at, self._request - self._turn)
        while True:
            away = self._away()[self._led]
            order = (np.arange(len(self._lanes)) + self._at + 1) % len(self._lanes)
            best = int(order[np.argmin(away[order])])
            free = away[best] <= (self._depth - 1) * self._request
            if free or int(away.sum()) < len(self._lanes) * self._depth * self._request // 2:
                self._at, self._turn, self._since = best, 0, now
                return self._offer(best, self._request)
            wait()

    def sent(self, lane: Lane, weight: int) -> None:
        """Counts what was handed over."""
        self._turn += weight
        self._given[lane.number] += weight

    def _offer(self, at: int, room: int) -> Lane:
        lane = self._lanes[at]
        lane.room = room
        return lane

    # ---------------------------------------------------------------- records with a key or a partition

    def place(self, records: Records) -> Int32s:
        """The partition of each: what it says, or its key's, or a request's worth to one after the other.

        Raises:
            ProduceError: the topic has no such partition; nothing was sent.
        """
        rows = len(records.values)
        given = records.partitions
        chosen = np.full(rows, -1, dtype=np.int32) if given is None else np.array(given, dtype=np.int32)
        if (chosen >= self.partitions).any():
            self.stale = True
            failure = native.failure(native.UNKNOWN_PARTITION)
            raise ProduceError(f"{rows} records can't be sent: {failure}: the topic has {self.partitions}", failure)
        if records.keys is not None:
            keyed = partitions_for(records.keys, self.partitions, records.null_keys)
            chosen = keyed if given is None else np.where(chosen < 0, keyed, chosen)
        free = chosen < 0
        if free.any():
            chosen[free] = self._spread(np.maximum(records.sizes()[free] + RECORD_BYTES, LEAST_WEIGHT))
        return chosen

    def _spread(self, weights: Int64s) -> Int32s:
        now = time.monotonic()
        if now - self._since >= self._linger:
            self._at, self._turn, self._since = self._at + 1, 0, now
        ends = self._turn + np.cumsum(weights)
        steps = (ends - weights) // self._request
        lanes: Int32s = self._led[(self._at + steps) % len(self._led)]
        self._at = int(self._at + steps[-1]) % len(self._led)
        self._turn = int(ends[-1] - steps[-1] * self._request)
        return lanes

    def rooms(self, partitions: Int64s, *, waited: bool = False) -> Int64s:
        """What each of these partitions takes now, in bytes of requests.

        A quarter of a request may be under way to one that takes more: small frames go out at once. Who has waited a
        little takes half of one for little enough: where answers take long, requests must not become small.
        """
        away = self._away()[partitions]
        limit = self._depth * self._request
        rooms = np.where(away <= limit // (2 if waited else 4), limit - away, 0)
        rooms[self._returned[self.numbers[partitions]] == self._let_go[partitions]] = EVERYWHERE
        return rooms

    def handed_over(self, partitions: Int64s, weights: Int64s) -> None:
        """Counts it."""
        self._given[self.numbers[partitions]] += weights

    def let_go(self, partitions: Int64s) -> None:
        """Nothing has come back from these for long: what waits for them is librdkafka's, until something does."""
        self._let_go[partitions] = self._returned[self.numbers[partitions]]

    def _away(self) -> Int64s:
        """What is under way to each partition."""
        return self._given[self.numbers] - self._returned[self.numbers]


class Lanes:
    """The lanes of a producer's topics, by what the broker says of their partitions.

    Args:
        client: the producer's handle.
        returned: weight that came back from each lane, by its number.
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
        if time.monotonic() < until and not (lanes is not None and lanes.stale):
            return lanes
        code, states = partition_states(self._client, topic, _ASK_MS)
        led = [state.partition for state in states if state.leader >= 0]
        if code or not led or len(self._numbers) + len(states) >= len(self._returned):
            self._topics[name] = time.monotonic() + _AGAIN, None
            return None
        known = self._numbers
        numbers = [known.setdefault((name, partition), len(known) + 1) for partition in range(len(states))]
        made = TopicLanes(np.array(numbers), led, self._returned, self._given, self._request, self._linger)
        self._topics[name] = time.monotonic() + _AGE, made
        return made

    def forget(self, name: str) -> None:
        """Asks again the next time."""
        self._topics.pop(name, None)
