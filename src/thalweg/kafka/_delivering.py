"""What becomes of what was sent: waiting for it, the reasons where it does not arrive, and the producer's end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import _oauth
from thalweg.kafka import _produce_api as native
from thalweg.kafka._delivery import Deliveries, DeliveryFailure, ProduceError, raise_failures, raise_if_fenced
from thalweg.kafka._produce_api import api
from thalweg.kafka._stall import StallWatch, why_stuck

_SLICE_MS = 50
_HURRY_MS = 3
_CONNECTION = ("security.", "ssl.", "sasl.", "enable.ssl", "enable.sasl")


@dataclass(slots=True)
class ProducerStatistics:
    """What a producer has done since it was made."""

    sent: int
    failed: int
    refused: int
    """Too large: never sent."""


class Delivering:
    """The part of a producer that waits.

    Args:
        config: librdkafka's settings, as text.
        connection: those of them that any client of the cluster needs.
    """

    def __init__(
        self, config: Mapping[str, Any], connection: Mapping[str, object], transactional_id: str | None
    ) -> None:
        self.transactional_id = transactional_id
        self._handle = native.new_producer(config)
        self._queue = api().rd_kafka_queue_get_main(self._handle)
        self._connection = connection
        self._topics: dict[str, int] = {}
        self._send_lock = threading.Lock()
        self._deliveries = Deliveries(self._queue)
        self._stall = StallWatch(lambda: self._deliveries.progress, self._why_stuck)
        self._generation = 1
        self._waited = 0
        self._sent = 0
        self._refused = 0
        self._poller: threading.Thread | None = None
        self._closing = False
        self._closed = False

    def barrier(self) -> int:
        """Closes the current generation and returns its number, for `wait`."""
        with self._send_lock:
            self._generation += 1
            return self._generation - 1

    def wait(self, generation: int, timeout: float) -> None:
        """Returns when all columns sent up to this barrier are with the broker.

        Raises:
            ProduceError: some are not, and never will be; or the time is over; or the producer is broken.
            FencedError: another producer has taken over.
        """
        self._wait(generation, time.monotonic() + timeout, hurry=False)

    def flush(self, timeout: float = 60.0) -> None:
        """Returns when everything sent so far is with the broker; nothing lingers meanwhile.

        Raises:
            ProduceError, FencedError: as `wait`.
        """
        deadline = time.monotonic() + timeout
        self._wait(self.barrier(), deadline, hurry=True)
        while self._deliveries.futures:
            self._hurry()
            self._deliveries.drain(_HURRY_MS, None)
            self._check_time(deadline)
            self._stall.look()
            self._raise_fatal()

    def _wait(self, generation: int, deadline: float, *, hurry: bool) -> None:
        # Read once: another thread may wait too, and what this one counts next must not be beyond `generation`.
        while (waited := self._waited) < generation:
            if hurry:
                self._hurry()
            if self._deliveries.drain(_HURRY_MS if hurry else _SLICE_MS, waited + 1):
                self._waited = max(self._waited, waited + 1)
            else:
                self._check_time(deadline)
                self._stall.look()
            self._raise_fatal()
        failures = self.take_failures()
        if failures:
            self._raise_fatal()  # what they failed of
        raise_failures(failures, self._stall.reason)

    def _hurry(self) -> None:
        """librdkafka lets nothing linger as long as this call lasts; it ends early when nothing is under way."""
        api().rd_kafka_flush(self._handle, _HURRY_MS)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            late = api().rd_kafka_outq_len(self._handle)
            why = self._stall.reason or self._why_stuck() or "the brokers answer; they may be slow, or the time short"
            raise ProduceError(
                f"{late} records were not taken by the brokers in time: {why}", native.failure(native.TIMED_OUT)
            )

    def close(self, timeout: float = 60.0) -> None:
        """Delivers what was sent, then frees the producer; a second call does nothing.

        Raises:
            ProduceError: something could not be delivered (the producer is freed all the same).
        """
        if self._closed:
            return
        try:
            if not native.fatal_error(self._handle):
                self.flush(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """Frees the producer and drops what it has not delivered: for one that is fenced or broken."""
        self._closing = True  # a sender that waits for room gives up
        with self._send_lock:
            if self._closed:
                return
            self._closed = True
        if self._poller is not None:
            self._poller.join()
        lib = api()
        lib.rd_kafka_purge(self._handle, native.PURGE_QUEUE | native.PURGE_INFLIGHT)
        self._deliveries.drain(0, None)
        self._deliveries.abandon(native.failure(native.DESTROYED))
        for topic in self._topics.values():
            lib.rd_kafka_topic_destroy(topic)
        lib.rd_kafka_queue_destroy(self._queue)
        lib.rd_kafka_destroy(self._handle)
        _oauth.end(self._handle)

    @property
    def statistics(self) -> ProducerStatistics:
        """Counts since the producer was made."""
        return ProducerStatistics(self._sent, self._deliveries.failed, self._refused)

    def take_failures(self) -> list[DeliveryFailure]:
        """The records that did not reach the broker since the last call (at most a thousand kept)."""
        return self._deliveries.take_failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    # ---------------------------------------------------------------- inside

    def _topic(self, name: str) -> int:
        handle = self._topics.get(name)
        if handle is None:
            handle = api().rd_kafka_topic_new(self._handle, name.encode(), None)
            if not handle:
                raise ConfigurationError(f"{name!r} can't be a topic's name")
            self._topics[name] = cast(int, handle)
        return handle

    def _check_open(self) -> None:
        if self._closing:
            raise ConnectorError("the Kafka producer is closed")
        self._raise_fatal()

    def _while_waiting(self) -> None:
        """Between two tries to hand over more, with the queue full."""
        self._check_open()
        self._stall.look()

    def _why_stuck(self) -> str | None:
        settings = {name: value for name, value in self._connection.items() if name.startswith(_CONNECTION)}
        return why_stuck(self._handle, dict(self._topics), str(self._connection["bootstrap.servers"]), settings)

    def _raise_refused(self) -> None:
        refusal, self._deliveries.refusal = self._deliveries.refusal, None
        if refusal is not None:
            raise ConnectorError(
                f"the Kafka cluster does not let this producer in: {refusal}. Check credentials, certificates and ACLs"
            )

    def _raise_fatal(self) -> None:
        self._raise_refused()
        fatal = native.fatal_error(self._handle)
        if fatal is not None:
            raise_if_fenced(self._handle, self.transactional_id, fatal)
            raise ProduceError(f"the Kafka producer can't go on: {fatal}", fatal)

    def _poll_in_background(self) -> None:
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="thalweg-kafka-delivery", daemon=True)
            self._poller.start()

    def _poll(self) -> None:
        while not self._closed:
            self._deliveries.drain(_SLICE_MS, None)
            if self._deliveries.futures:
                self._stall.look()
                self._give_up_where_refused()

    def _give_up_where_refused(self) -> None:
        """Records whose delivery somebody awaits fail at once when the broker has never let us in."""
        refusal = self._deliveries.refusal
        if refusal is not None and not self._deliveries.progress:
            text = f"the Kafka cluster does not let this producer in: {refusal}"
            api().rd_kafka_purge(self._handle, native.PURGE_QUEUE | native.PURGE_INFLIGHT)
            self._deliveries.abandon(refusal, text)
