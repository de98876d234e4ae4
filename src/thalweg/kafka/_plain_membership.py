"""A plain consumer's place in its group: what `confluent_kafka` tells through callbacks.

It runs them inside `consume`, and raises there what they raise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.kafka._produce_api import FATAL, Failure
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka._rebalancing import Partitions, RebalanceListener
from thalweg.kafka.consumer_errors import raise_for

if TYPE_CHECKING:
    from confluent_kafka import Consumer

logger = logging.getLogger("thalweg.kafka")

_FENCED_INSTANCE_ID = 82


class PlainMembership:
    """Takes what the group gives and gives back what it wants, all at once.

    Args:
        progress: learns which partitions are no longer ours.
        hold: assignments wait for `started`.
    """

    def __init__(self, progress: ReadingProgress, hold: bool) -> None:
        self.assigned: Partitions = frozenset()
        self.offered: Partitions | None = None
        self.revoked = False
        self.leaving = False
        self.last_error: str | None = None
        self.settings: dict[str, Any] = {"error_cb": self._on_error}
        self._progress = progress
        self._hold = hold
        self._errors: list[Failure] = []

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        consumer.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def started(self, partitions: Partitions) -> None:
        """The application reads these now."""
        self.assigned, self.offered = partitions, None

    def raise_errors(self) -> None:
        """Raises what the callbacks noted, if it is anything that the reader must know."""
        errors, self._errors = self._errors, []
        for error in errors:
            raise_for(error)

    def _on_assign(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        named = _named(partitions)
        if self._hold:
            consumer.assign([])
            self.offered = named
            return
        self._progress.keep_only(frozenset())
        self.assigned = named

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        self.assigned = frozenset()
        if self._hold:
            self.revoked = True
        if not self.leaving:
            self._progress.keep_only(frozenset())

    def _on_lost(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        self._on_revoke(consumer, partitions)

    def _on_error(self, error: Any) -> None:
        self.last_error = error.str()
        self._errors.append(failure_of(error))


class ListenedPlainMembership(PlainMembership):
    """A `PlainMembership` whose listener is asked and told, as `ListenedMembership`'s is.

    Args:
        one_by_one: the group's strategy is cooperative.
    """

    def __init__(self, progress: ReadingProgress, listener: RebalanceListener, *, one_by_one: bool) -> None:
        super().__init__(progress, hold=False)
        self._listener = listener
        self._one_by_one = one_by_one
        self.settings["on_commit"] = self._on_commit

    def _on_assign(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        named = _named(partitions)
        logger.info("the group assigned %d partitions", len(named))
        try:
            starts = self._listener.assigned(named)
            for row in partitions:
                row.offset = starts.get((row.topic, row.partition), row.offset)
        finally:
            if self._one_by_one:
                consumer.incremental_assign(list(partitions))
                self.assigned |= named
            else:
                consumer.assign(list(partitions))
                self.assigned = named
            self._progress.keep_only(self.assigned - named)
        self._listener.started(named)

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        self._give_back(consumer, partitions, self._listener.revoked)

    def _on_lost(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        self._give_back(consumer, partitions, self._listener.lost)

    def _give_back(self, consumer: Consumer, partitions: Sequence[Any], tell: Any) -> None:
        named = _named(partitions)
        try:
            if named and not self.leaving:
                logger.info("%d partitions go back to the group", len(named))
                tell(named)
        finally:  # the group waits for it, whatever the listener did
            if self._one_by_one:
                consumer.incremental_unassign(list(partitions))
                self.assigned -= named
            else:
                consumer.unassign()
                self.assigned = frozenset()
            self._progress.keep_only(self.assigned)

    def _on_commit(self, error: Any, partitions: Sequence[Any]) -> None:
        errors = [problem for problem in (error, *(tp.error for tp in partitions)) if problem is not None]
        offsets: Mapping[Any, int] = {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}
        self._listener.committed(offsets, failure_of(errors[0]) if errors else None)


def failure_of(error: Any) -> Failure:
    """A `KafkaError` as the columnar path has it."""
    fatal = error.fatal() or error.code() == FATAL
    # The code beneath a fatal error can't be had from confluent_kafka; its text can.
    code = _FENCED_INSTANCE_ID if fatal and "fenced" in error.str() else error.code()
    return Failure(code, error.name(), error.str(), fatal=fatal)


def _named(partitions: Sequence[Any]) -> Partitions:
    return frozenset((tp.topic, tp.partition) for tp in partitions)
