"""The transactional part of the producer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, Self

from thalweg.errors import ConfigurationError, ConnectorError, FencedError
from thalweg.kafka import _produce_api as native
from thalweg.kafka._consume_api import PartitionList
from thalweg.kafka._delivering import Delivering
from thalweg.kafka._delivery import ProduceError, raise_if_fenced
from thalweg.kafka._produce_api import GroupMembership, api

logger = logging.getLogger("thalweg.kafka")

_SLICE_MS = 5
_REGISTRATION = 3.0
"""Seconds; a coordinator that takes longer than this to write a commit's markers is not well."""
_STEP_MS = 1_000
"""`init_transactions` is asked in steps of this length: in between, refused credentials are noticed."""


class GroupMember(Protocol):
    """A consumer whose group's offsets go into a transaction."""

    def group_metadata(self) -> GroupMembership: ...


class Transactions(Delivering):
    """What is sent in a transaction is seen together with its offsets, or never."""

    _initialised = False
    _begun_at = 0
    """Deliveries before the open transaction."""

    @contextmanager
    def transaction(self, timeout: float = 60.0) -> Iterator[Self]:
        """A transaction for a `with` block: committed at its end, aborted where the block (or the commit) raises.

        The first one of a producer runs `init_transactions`: an earlier producer with the same id is fenced off.

        Args:
            timeout: seconds for the commit, deliveries included.

        Raises:
            FencedError: another producer with this id has taken over; make no more transactions with this one.
            ProduceError: the commit failed; the transaction was aborted, and can be made again from its start.

        >>> with producer.transaction():                                                 # doctest: +SKIP
        ...     producer.send_frame("averages", frame)
        ...     producer.send_offsets(consumer.positions(), consumer)
        """
        if not self._initialised:
            self.init_transactions()
        self.begin_transaction()
        try:
            yield self
            self.commit_transaction(timeout)
        except FencedError:
            raise  # there is nothing left that this producer could abort
        except BaseException:
            self._abort_after_error()
            raise

    def _abort_after_error(self) -> None:
        try:
            self.abort_transaction()
        except ConnectorError as error:
            # The first error is the one to tell; the broker ends the transaction by its own timeout.
            logger.warning("the transaction of %r could not be aborted: %s", self.transactional_id, error)

    def init_transactions(self, timeout: float = 30.0) -> None:
        """Registers the transactional id, fences an earlier instance off and ends its open transaction.

        Raises:
            ConfigurationError: the producer has no transactional_id.
            ProduceError, FencedError, ConnectorError
        """
        if self.transactional_id is None:
            raise ConfigurationError("transactions need a producer with a transactional_id")
        self._transaction(
            "init_transactions", lambda ms: api().rd_kafka_init_transactions(self._handle, min(ms, _STEP_MS)), timeout
        )
        self._initialised = True

    def begin_transaction(self) -> None:
        """Opens a transaction: all that is sent until its end is seen together, or never."""
        self._transaction("begin_transaction", lambda _: api().rd_kafka_begin_transaction(self._handle), 10.0)
        self._begun_at = self._deliveries.progress

    def send_offsets(
        self,
        offsets: Mapping[tuple[str, int], int | tuple[int, str]],
        group: GroupMember | int,
        timeout: float = 10.0,
    ) -> None:
        """Commits a consumer's offsets with the open transaction.

        Args:
            offsets: the next offset to read of each (topic, partition), with a note if you like.
            group: the consumer that read up to there; its group refuses if the partitions have moved on. (Or the
                address of an rd_kafka_consumer_group_metadata_t.)

        Raises:
            ProduceError: the group has moved on, or its coordinator does not answer: abort.
        """
        rows = {tp: at if isinstance(at, tuple) else (at, "") for tp, at in offsets.items()}
        membership = None if isinstance(group, int) else group.group_metadata()
        address = membership.address if membership is not None else group
        try:
            with PartitionList(rows) as listed:
                self._transaction(
                    "send_offsets_to_transaction",
                    lambda ms: api().rd_kafka_send_offsets_to_transaction(self._handle, listed.pointer, address, ms),
                    timeout,
                )
        finally:
            if membership is not None:
                membership.close()

    def commit_transaction(self, timeout: float = 10.0) -> None:
        """Ends the open transaction; waits for its records first, and lets none of them linger."""
        self._wait(self.barrier(), time.monotonic() + timeout, hurry=True)
        self._transaction("commit_transaction", lambda ms: api().rd_kafka_commit_transaction(self._handle, ms), timeout)

    def abort_transaction(self, timeout: float = 10.0) -> None:
        """Ends the open transaction as if it had never been."""
        generation = self.barrier()
        self._await_registration(time.monotonic() + min(timeout, _REGISTRATION))
        # The client purges what is queued and waits for what is under way. It has to be left to the client: the purge
        # for everybody keeps the purged records' sequence numbers, and the broker would miss them ever after.
        with self._deliveries.taken_meanwhile():
            self._transaction(
                "abort_transaction", lambda ms: api().rd_kafka_abort_transaction(self._handle, ms), timeout
            )
        while (waited := self._waited) < generation and self._deliveries.drain(0, waited + 1):
            self._waited = max(self._waited, waited + 1)
        self._deliveries.take_failures()  # purged on purpose

    def _await_registration(self, deadline: float) -> None:
        """Waits for the first of the transaction's records: then the coordinator knows of the transaction.

        Just after a commit it puts new partitions off until the markers are written. An abort that overtakes them is
        an error that no producer recovers from (INVALID_TXN_STATE).
        """
        while (
            api().rd_kafka_outq_len(self._handle)
            and self._deliveries.progress == self._begun_at
            and time.monotonic() < deadline
            and native.fatal_error(self._handle) is None
        ):
            self._deliveries.drain(_SLICE_MS, None)

    def _transaction(self, step: str, call: Callable[[int], int | None], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            problem = native.take_error(call(max(int((deadline - time.monotonic()) * 1000), 1)))
            if problem is None:
                return
            self._deliveries.drain(0, None)
            raise_if_fenced(self._handle, self.transactional_id, problem)
            self._raise_refused()
            if not problem.retriable or time.monotonic() >= deadline:
                raise ProduceError(f"{step} of {self.transactional_id!r} failed: {problem}", problem)
