"""Delivery reports: counted in bulk by a kernel; only failures and awaited records become Python objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from thalweg.errors import ConnectorError, FencedError
from thalweg.kafka import _produce_api as native
from thalweg.kafka._produce_api import Failure, address, api
from thalweg.kafka._produce_kernels import FUTURE_BIT, LANES, REPORT_WORDS, RING, drain

_KEPT_FAILURES = 1000
_SLICE_MS = 5


class ProduceError(ConnectorError):
    """Records that could not be delivered, or a transaction step that failed. `failure` has librdkafka's view."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class RecordMetadata:
    """Where a record ended up; `timestamp` in ms UTC."""

    topic: str
    partition: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """One record that did not reach the broker after all retries."""

    topic: str
    partition: int
    failure: Failure


def raise_failures(failures: Sequence[DeliveryFailure], reason: str | None = None) -> None:
    """Raises a `ProduceError` that names the first of them, if there is any, and why (where that is known)."""
    if failures:
        first = failures[0]
        raise ProduceError(
            f"{len(failures)} records were not delivered; the first, to {first.topic!r} [{first.partition}]: "
            f"{first.failure}{f'. Seen while it waited: {reason}' if reason else ''}",
            first.failure,
        )


def raise_if_fenced(handle: int, transactional_id: str | None, problem: Failure) -> None:
    """Raises a `FencedError` if the problem, or what broke the producer before it, is that another has taken over."""
    fatal = native.fatal_error(handle)
    if problem.code in native.FENCED_CODES or (fatal is not None and fatal.code in native.FENCED_CODES):
        raise FencedError(
            f"another producer with transactional id {transactional_id!r} has taken over, or the broker gave this "
            f"one's transaction up because it took too long ({problem})"
        )


class Deliveries:
    """What has become of the records handed to librdkafka. Any thread may call any method."""

    def __init__(self, queue: int) -> None:
        self.sent = np.zeros(RING, dtype=np.int64)
        """Messages per generation % RING; counted up by the sender before it hands them over."""
        self.done = np.zeros(RING, dtype=np.int64)
        self.lanes = np.zeros(LANES, dtype=np.int64)
        """Bytes that came back from each lane, delivered or not."""
        self.failed = 0
        self.refusal: Failure | None = None
        """The broker does not let us in; None once something was delivered, or the refusal was told."""
        self.resolved = 0
        """Deliveries that were awaited one by one."""
        self.futures: dict[int, Future[RecordMetadata]] = {}
        self._failures: list[DeliveryFailure] = []
        self._next_opaque = 0
        self._lock = threading.Lock()
        self._event = np.zeros(2, dtype=np.int64)
        self._scratch = np.zeros(4096, dtype=np.int64)
        self._reports = np.zeros((1024, REPORT_WORDS), dtype=np.int64)
        names = ("queue_poll", "event_type", "event_message_array", "event_destroy", "message_timestamp")
        self._calls = np.array([address(f"rd_kafka_{name}") for name in names] + [queue], dtype=np.int64)

    def expect(self, future: Future[RecordMetadata]) -> int:
        """Registers a future; returns the opaque to send its record with."""
        with self._lock:
            self._next_opaque += 1
            opaque = FUTURE_BIT | self._next_opaque
            self.futures[opaque] = future
        return opaque

    def forget(self, opaque: int) -> None:
        """The record was not sent after all."""
        self.futures.pop(opaque, None)

    def drain(self, timeout_ms: int, generation: int | None) -> bool:
        """Takes reports until this generation is delivered, or none comes for `timeout_ms`; whether it is delivered.

        None: takes what is there, waiting up to `timeout_ms` for the first.
        """
        resolved: list[tuple[Future[RecordMetadata], RecordMetadata | ProduceError]] = []
        with self._lock:
            target = np.array([-1 if generation is None else generation, 0], dtype=np.int64)
            while True:
                n = drain(
                    *(self._calls, self._event, timeout_ms, self.sent, self.done, self.lanes),
                    *(self._scratch, self._reports, target),
                )
                resolved += self._take(n)
                other = bool(self._event[1])  # a log line or an error; what it was in front of is still there
                more = bool(n) or other
                if other:
                    event, self._event[1] = int(self._event[1]), 0
                    self.refusal = native.handle_event(event) or self.refusal
                if not more or (generation is None and not self._event[0] and not other):
                    break
                timeout_ms = 0 if generation is None else timeout_ms
            self.failed += int(target[1])
            slot = 0 if generation is None else generation % RING
            finished = bool(self.sent[slot] == self.done[slot])
            self.resolved += len(resolved)
        for future, result in resolved:  # outside the lock: callbacks may send
            if isinstance(result, ProduceError):
                future.set_exception(result)
            else:
                future.set_result(result)
        return generation is not None and finished

    @contextmanager
    def taken_meanwhile(self) -> Iterator[None]:
        """Takes reports as long as the block runs: for calls of librdkafka that wait until somebody takes them."""
        done = threading.Event()

        def take() -> None:
            while not done.is_set():
                self.drain(_SLICE_MS, None)

        thread = threading.Thread(target=take, name="thalweg-kafka-abort", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    @property
    def progress(self) -> int:
        """Grows with each delivery report."""
        return int(self.done.sum()) + self.resolved

    def take_failures(self) -> list[DeliveryFailure]:
        """Failures since the last call, the first thousand of them."""
        with self._lock:
            failures, self._failures = self._failures, []
        return failures

    def abandon(self, why: Failure, text: str = "the producer was closed before the record was delivered") -> None:
        """Fails the futures that nothing will be heard of any more."""
        with self._lock:
            futures = list(self.futures.values())
            self.futures.clear()
        for future in futures:
            future.set_exception(ProduceError(text, why))

    def _take(self, count: int) -> list[tuple[Future[RecordMetadata], RecordMetadata | ProduceError]]:
        resolved: list[tuple[Future[RecordMetadata], RecordMetadata | ProduceError]] = []
        for opaque, error, partition, offset, timestamp, handle in self._reports[:count].tolist():
            topic = api().rd_kafka_topic_name(handle).decode()
            future = self.futures.pop(opaque, None)
            if not error:
                if future is not None:
                    resolved.append((future, RecordMetadata(topic, partition, offset, timestamp)))
                continue
            failure = native.failure(error)
            if future is not None:
                text = f"a record to {topic!r} [{partition}] was not delivered: {failure}"
                resolved.append((future, ProduceError(text, failure)))
            elif len(self._failures) < _KEPT_FAILURES:
                self._failures.append(DeliveryFailure(topic, partition, failure))
        return resolved
