"""What librdkafka tells a consumer through callbacks: assignments, errors, logs and statistics.

An exception in a ctypes callback would be swallowed, so a callback only notes what came; `raise_errors` speaks up after
the call that ran it.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Any

from thalweg.kafka import _consume_api as native
from thalweg.kafka._consume_api import TopicPartition, api
from thalweg.kafka._produce_api import FATAL, Failure, failure, fatal_error
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka.consumer_errors import raise_for

logger = logging.getLogger("thalweg.kafka")


class Membership:
    """A consumer's place in its group.

    Args:
        progress: learns which partitions are no longer ours.
        hold: assignments wait for `started`, revocations for `leave`.
    """

    def __init__(self, progress: ReadingProgress, hold: bool) -> None:
        self.assigned: frozenset[TopicPartition] = frozenset()
        self.offered: frozenset[TopicPartition] | None = None
        self.revoked = False
        self.last_error: str | None = None
        self.last_stats: str | None = None
        self._progress = progress
        self._hold = hold
        self._leaving = False
        self._errors: list[Failure] = []
        self._problem: BaseException | None = None
        self.callbacks: dict[str, Any] = {
            "rebalance": native.RebalanceCallback(self._on_rebalance),
            "error": native.ErrorCallback(self._on_error),
            "log": native.LogCallback(self._on_log),
            "stats": native.StatsCallback(self._on_stats),
        }

    def started(self, partitions: frozenset[TopicPartition]) -> None:
        """The application reads these now."""
        self.assigned, self.offered = partitions, None

    def raise_errors(self, handle: int) -> None:
        """Raises what the callbacks noted, if it is anything that the reader must know."""
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        errors, self._errors = self._errors, []
        for error in errors:
            if error.code == FATAL:
                error = fatal_error(handle) or error
            raise_for(error)

    def leave(self, handle: int) -> None:
        """Gives the partitions back and leaves the group."""
        self._leaving = True
        api().rd_kafka_assign(handle, None)
        code = api().rd_kafka_consumer_close(handle)
        if code:
            logger.warning("the consumer did not leave its group in order: %s", failure(code))
        self.assigned, self.offered = frozenset(), None

    @property
    def leaving(self) -> bool:
        """The consumer is being closed."""
        return self._leaving

    def _on_rebalance(self, handle: int, code: int, partitions: Any, opaque: int | None) -> None:
        try:
            self._rebalance(handle, code, partitions)
        except BaseException as error:
            self._problem = error

    def _rebalance(self, handle: int, code: int, partitions: Any) -> None:
        named = frozenset(native.partitions_in(partitions))
        if code == native.ASSIGN and not self._leaving:
            logger.info("the group assigned %d partitions", len(named))
            if self._hold:
                # Answered, with nothing to read yet: before an answer librdkafka passes over it when the group deals
                # out anew, which then waits for this member for as long as `max.poll.interval.ms`.
                with native.PartitionList(()) as nothing:
                    api().rd_kafka_assign(handle, nothing.pointer)
                self.offered = named
                return
            self._progress.keep_only(frozenset())
            api().rd_kafka_assign(handle, partitions)
            self.assigned = named
            return
        if self._hold and not self._leaving:
            # The group waits until the partitions are given back; who reads them first ends what is under way.
            logger.info("the group wants its partitions back")
            self.revoked = True
            return
        api().rd_kafka_assign(handle, None)
        self.assigned, self.offered = frozenset(), None
        if not self._leaving:
            logger.info("the group took its partitions back")
            self._progress.keep_only(frozenset())

    def _on_error(self, handle: int, code: int, reason: bytes | None, opaque: int | None) -> None:
        try:
            error = failure(code, (reason or b"").decode(errors="replace"))
            self.last_error = error.text
            self._errors.append(error)
        except BaseException as problem:
            self._problem = problem

    def _on_log(self, handle: int, level: int, facility: bytes | None, text: bytes | None) -> None:
        try:
            line = (text or b"").decode(errors="replace")
            # librdkafka's levels are syslog's. Lost connections also come as errors, which are judged there.
            logger.log(logging.WARNING if level <= 3 and facility != b"FAIL" else logging.DEBUG, "%s", line)
        except BaseException as problem:
            self._problem = problem

    def _on_stats(self, handle: int, text: int, length: int, opaque: int | None) -> int:
        try:
            self.last_stats = ctypes.string_at(text, length).decode(errors="replace")
        except BaseException as problem:
            self._problem = problem
        return 0
