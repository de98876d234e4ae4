"""Membership of a group that takes and gives partitions while others go on: cooperative and eager rebalancing alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from thalweg.kafka import _consume_api as native
from thalweg.kafka._consume_api import TopicPartition, api
from thalweg.kafka._membership import Membership
from thalweg.kafka._produce_api import Failure, failure, take_error
from thalweg.kafka._reading_progress import ReadingProgress

logger = logging.getLogger("thalweg.kafka")

Partitions = frozenset[TopicPartition]


class RebalanceListener(Protocol):
    """Who is told of what the group decides, on the polling thread, inside a poll."""

    def assigned(self, partitions: Partitions) -> Mapping[TopicPartition, int]:
        """Before these are read; returns positions of those that are to start elsewhere than at their commit."""

    def started(self, partitions: Partitions) -> None:
        """These are being read now."""

    def revoked(self, partitions: Partitions) -> None:
        """Before these are given back: the last moment to commit them."""

    def lost(self, partitions: Partitions) -> None:
        """These belong to another member already; nothing can be committed for them any more."""

    def committed(self, offsets: Mapping[TopicPartition, int], problem: Failure | None) -> None:
        """What has become of an asynchronous commit."""


class ListenedMembership(Membership):
    """A `Membership` whose listener is asked and told; it speaks the protocol that the group has agreed on."""

    def __init__(self, progress: ReadingProgress, listener: RebalanceListener) -> None:
        super().__init__(progress, hold=False)
        self._listener = listener
        self.callbacks["offset_commit"] = native.OffsetCommitCallback(self._on_commit)

    def leave(self, handle: int) -> None:
        self._leaving = True
        code = api().rd_kafka_consumer_close(handle)  # gives the partitions back by the callback
        if code:
            logger.warning("the consumer did not leave its group in order: %s", failure(code))
        self.assigned = frozenset()

    def _rebalance(self, handle: int, code: int, partitions: Any) -> None:
        named = frozenset(native.partitions_in(partitions))
        one_by_one = api().rd_kafka_rebalance_protocol(handle) == b"COOPERATIVE"
        if code == native.ASSIGN and not self._leaving:
            self._take(handle, partitions, named, one_by_one)
            return
        try:
            if named and not self._leaving:
                lost = bool(api().rd_kafka_assignment_lost(handle))
                logger.info("%d partitions %s", len(named), "were lost" if lost else "go back to the group")
                (self._listener.lost if lost else self._listener.revoked)(named)
        finally:  # the group waits for it, whatever the listener did
            self._give_back(handle, partitions, named, one_by_one)

    def _take(self, handle: int, partitions: Any, named: Partitions, one_by_one: bool) -> None:
        logger.info("the group assigned %d partitions", len(named))
        try:
            starts = self._listener.assigned(named)
            for row in native.list_rows(partitions):
                row.offset = starts.get((row.topic.decode(), row.partition), row.offset)
        finally:
            if one_by_one:
                _check(take_error(api().rd_kafka_incremental_assign(handle, partitions)), "take")
                self.assigned |= named
            else:
                api().rd_kafka_assign(handle, partitions)
                self.assigned = named
            self._progress.keep_only(self.assigned - named)
        self._listener.started(named)

    def _give_back(self, handle: int, partitions: Any, named: Partitions, one_by_one: bool) -> None:
        if one_by_one:
            _check(take_error(api().rd_kafka_incremental_unassign(handle, partitions)), "give back")
            self.assigned -= named
        else:
            api().rd_kafka_assign(handle, None)
            self.assigned = frozenset()
        self._progress.keep_only(self.assigned)

    def _on_commit(self, handle: int, code: int, partitions: Any, opaque: int | None) -> None:
        try:
            rows = native.list_rows(partitions)
            problem = next((failure(error) for error in (code, *(row.err for row in rows)) if error), None)
            offsets = {(row.topic.decode(), row.partition): row.offset for row in rows if row.offset >= 0}
            self._listener.committed(offsets, problem)
        except BaseException as error:
            self._problem = error


def _check(problem: Failure | None, what: str) -> None:
    if problem is not None:
        logger.warning("the consumer could not %s partitions: %s", what, problem)
