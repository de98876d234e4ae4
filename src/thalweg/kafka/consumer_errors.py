"""What a consumer's errors mean: go on, start again, or stop, in words that say what to do."""

from __future__ import annotations

import logging
import time

from thalweg.errors import ConnectorError, FencedError, RestartRequired
from thalweg.kafka._produce_api import FATAL, FENCED_CODES, Failure, lets_not_in

logger = logging.getLogger("thalweg.kafka")

OFFSET_RESET = -140
_NO_OFFSET = -168
_GENERATION_CODES = frozenset({22, 25, 27})
"""ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS."""
_MAX_POLL_EXCEEDED = -147
_TOPIC_GONE = frozenset({3, -188, -190})
_FORBIDDEN = frozenset({29, 30, 31, 58, -169})
_HOPELESS = frozenset({17, 23, 24, 26})
"""INVALID_TOPIC, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID, INVALID_SESSION_TIMEOUT."""


_QUIET = 5.0
_complaints: dict[tuple[str, int], float] = {}


class OffsetOutOfRange(ConnectorError):
    """The broker no longer (or not yet) has the record to go on from. The partition rests until the next `start`."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"topic {topic!r}, partition {partition}: the broker has no offset {offset}; "
            "retention removed it, or the topic was made anew"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


def raise_for(failure: Failure, topic: str | None = None, partition: int = -1, offset: int = -1) -> None:
    """Raises what the reader must know; an error that librdkafka will get over by itself is only logged.

    Raises:
        FencedError: another consumer has the same group.instance.id.
        RestartRequired: the membership was lost.
        OffsetOutOfRange: see there.
        ConnectorError: an error that waiting does not mend.
    """
    where = f"topic {topic!r}" if topic else "the consumer group"
    if topic and partition >= 0:
        where += f", partition {partition}"
    if failure.code in FENCED_CODES - {FATAL}:
        raise FencedError(
            f"another consumer with the same group.instance.id has taken over ({failure}); is the same job, "
            "with the same worker slot, running twice?"
        )
    if failure.code == _MAX_POLL_EXCEEDED:
        raise RestartRequired(f"nothing was polled for longer than max.poll.interval.ms ({failure})")
    if failure.code == OFFSET_RESET and topic:
        raise OffsetOutOfRange(topic, partition, offset)
    if failure.code in _TOPIC_GONE:
        raise ConnectorError(f"{where} is gone: {failure}; was it deleted while the job ran?")
    if failure.code in _FORBIDDEN or lets_not_in(failure.code, failure.text):
        raise ConnectorError(f"{where}: {failure}; check the credentials, and the ACLs for reading topic and group")
    if failure.code in _HOPELESS or failure.fatal:
        raise ConnectorError(f"{where}: {failure}")
    _complain(failure, where)


def _complain(failure: Failure, where: str) -> None:
    """Logs an error that passes, the same one at most once in `_QUIET` seconds: a dead broker gives dozens a second."""
    now = time.monotonic()
    if now - _complaints.get((where, failure.code), -_QUIET) >= _QUIET:
        _complaints[where, failure.code] = now
        logger.warning("%s: %s; librdkafka tries again", where, failure)


def raise_not_committed(failure: Failure) -> None:
    """Raises why offsets were not committed: whatever it is, what was read since the last commit has to come again.

    Raises:
        RestartRequired, FencedError, ConnectorError: see `raise_for`.
    """
    if failure.code == _NO_OFFSET:
        return
    if failure.code not in _GENERATION_CODES:
        raise_for(failure)
    raise RestartRequired(f"the offsets were not committed: {failure}")


def unreachable(brokers: str, seconds: float, reason: str | None) -> ConnectorError:
    """Nobody has answered."""
    said = f" The last attempt said: {reason}." if reason else ""
    return ConnectorError(
        f"no Kafka broker at {brokers} answered within {seconds:.0f} s.{said} Check that the broker runs, that host "
        "and port are right and reachable from here, and that its advertised.listeners names an address this machine "
        "can reach (and security.protocol, where it wants TLS or SASL)"
    )
