"""Why nothing is delivered: found out while a producer waits, said in its log and in its errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from thalweg.errors import ConnectorError
from thalweg.kafka._consume_api import PartitionState, partition_states

logger = logging.getLogger("thalweg.kafka")

_PATIENCE = 3.0
"""Seconds without a delivery after which the cluster is asked."""
_ASK_AGAIN = 15.0
_REQUEST = 3.0


class StallWatch:
    """Looks at a producer that waits.

    Args:
        progress: a number that grows with each delivery.
        diagnose: says what is wrong in the cluster, None where nothing is.
    """

    def __init__(self, progress: Callable[[], int], diagnose: Callable[[], str | None]) -> None:
        self.reason: str | None = None
        """What was found last; None once deliveries go on."""
        self._progress = progress
        self._diagnose = diagnose
        self._seen = -1
        self._since = 0.0
        self._next_question = 0.0
        self._last_look = 0.0

    def look(self) -> None:
        """Call it again and again while waiting: it costs nothing until a wait is long."""
        now, seen = time.monotonic(), self._progress()
        pause, self._last_look = now - self._last_look, now
        if seen != self._seen or pause > _PATIENCE:  # a delivery, or the first look of another wait
            if self.reason is not None and seen != self._seen:
                logger.warning("records are being delivered again")
                self.reason = None
            self._seen, self._since = seen, now
            self._next_question = now + _PATIENCE
            return
        if now >= self._next_question:
            self._next_question = now + _ASK_AGAIN
            self.reason = self._diagnose()
            text = self.reason or "the brokers answer, and every partition has a leader and enough replicas"
            logger.warning("nothing was delivered for %.0f s: %s", now - self._since, text)
            self._last_look = time.monotonic()


def why_stuck(handle: int, topics: Mapping[str, int], brokers: str, settings: Mapping[str, object]) -> str | None:
    """What keeps records of these topics (name to rd_kafka_topic_t) from being taken; None: nothing that can be seen.

    Args:
        handle: the producer's rd_kafka_t, which asks.
        settings: of the connection, for the question after `min.insync.replicas`.
    """
    found = []
    for name, topic in topics.items():
        code, states = partition_states(handle, topic, int(_REQUEST * 1000))
        if code:
            return f"no broker at {brokers} answers; is the cluster up, and can it be reached from here?"
        found += _complaints(name, states, brokers, settings)
    return "; ".join(found) or None


def _complaints(
    topic: str, states: Iterable[PartitionState], brokers: str, settings: Mapping[str, object]
) -> list[str]:
    rows = list(states)
    leaderless = [row.partition for row in rows if row.leader < 0]
    found = [f"topic {topic!r}: no leader for partitions {leaderless}; their brokers are down"] if leaderless else []
    if any(row.in_sync < row.replicas for row in rows):
        needed = _min_in_sync(topic, brokers, settings)
        few = [row for row in rows if row.leader >= 0 and row.in_sync < needed]
        if few:
            found.append(
                f"topic {topic!r}: partitions {[row.partition for row in few]} have {few[0].in_sync} in-sync replicas "
                f"of {few[0].replicas}, and min.insync.replicas is {needed}: with acks=-1 the brokers take nothing "
                "until another replica is back. Start the missing brokers; a lower min.insync.replicas risks losses"
            )
    return found


def _min_in_sync(topic: str, brokers: str, settings: Mapping[str, object]) -> int:
    from thalweg.kafka.admin import KafkaAdmin

    admin = KafkaAdmin(brokers, timeout=2 * _REQUEST, settings=settings)
    try:
        return int(admin.describe(topic).config.get("min.insync.replicas", 1))
    except ConnectorError:
        return 1  # then the replicas are not known to be too few
    finally:
        admin.close()
