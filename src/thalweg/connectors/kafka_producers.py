"""The producers of one worker slot: one, or two transactional ones that take turns."""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.errors import RestartRequired
from thalweg.kafka.producer import KafkaProducer
from thalweg.streams.connector import Guarantee, JobSettings

TRANSACTION_TIMEOUT_MS = 10_000
"""A worker that dies inside a transaction blocks readers for so long, if nobody ends it before (`kafka_peers`)."""
BATCH_BYTES = 1_000_000


def transactional_ids(job: JobSettings, slot: int) -> tuple[str, str]:
    """The two of a slot. Both are always fenced, also by an instance that writes with the first alone: an earlier
    instance may have used both."""
    return f"{job.name}-{slot}", f"{job.name}-{slot}-b"


class SlotProducers:
    """Makes, fences and frees them. One thread at a time.

    Args:
        settings: librdkafka settings for the producers.
        alternating: whether two take turns; exactly-once only.
    """

    def __init__(
        self, brokers: str, job: JobSettings, settings: Mapping[str, object], *, alternating: bool = False
    ) -> None:
        self.batch_bytes = BATCH_BYTES
        self.exactly_once = job.guarantee == Guarantee.EXACTLY_ONCE
        self.count = 2 if alternating and self.exactly_once else 1
        self._brokers = brokers
        self._job = job
        self._settings = dict(settings)
        self._producers: list[KafkaProducer] = []
        self._turn = 0
        self._failed = False

    def renew(self) -> None:
        """New producers: the broker ends what the last ones, here or elsewhere, had under way as these register."""
        self.kill()
        self._failed, self._turn = False, 0
        if not self.exactly_once:
            self._producers = [self._make(None)]
            return
        for name in transactional_ids(self._job, self._job.slot):
            producer = self._make(name)
            self._producers.append(producer)
            producer.init_transactions(timeout=60.0)
        for spare in self._producers[self.count :]:
            spare.kill()
        del self._producers[self.count :]

    def end_transactions_of(self, slot: int) -> None:
        """Ends what another slot's producers have under way, and fences them off.

        Raises:
            ConnectorError: the broker does not do it.
        """
        for name in transactional_ids(self._job, slot):
            producer = self._make(name)
            try:
                producer.init_transactions(timeout=TRANSACTION_TIMEOUT_MS / 1000)
            finally:
                producer.kill()

    @property
    def current(self) -> KafkaProducer:
        """The one whose turn it is.

        Raises:
            RestartRequired: a commit has failed since they were made.
        """
        if self._failed or not self._producers:
            raise RestartRequired("the last commit failed; recover first")
        return self._producers[self._turn % self.count]

    def take_turn(self) -> KafkaProducer:
        """The one whose turn it is; it is then the other's.

        What the other has sent is in the log by then. Otherwise records of this turn could come to lie before those of
        the last one, and readers would get the changes of a key, or the rows of an exchange, in the wrong order.

        Raises:
            ConnectorError: it is not, and won't be.
        """
        producer = self.current
        if self.count > 1 and self._turn:
            self._producers[(self._turn - 1) % self.count].flush(TRANSACTION_TIMEOUT_MS / 1000)
        self._turn += 1
        return producer

    def fail(self) -> None:
        """Nothing more is to be sent. They are not freed before `renew` or `kill`: another thread may be in a call."""
        self._failed = True

    def another(self) -> KafkaProducer:
        """One without transactions, the caller's to free."""
        return self._make(None)

    def close(self) -> None:
        """Delivers what is under way, unless it waits for a commit that won't come, and frees them."""
        if self.exactly_once or self._failed:
            self.kill()
            return
        producers, self._producers = self._producers, []
        for producer in producers:
            producer.close()

    def kill(self) -> None:
        """Frees them; what is not delivered is dropped."""
        producers, self._producers = self._producers, []
        for producer in producers:
            producer.kill()

    def _make(self, transactional_id: str | None) -> KafkaProducer:
        settings: dict[str, object] = {"retry.backoff.ms": 2, "retry.backoff.max.ms": 100}
        if transactional_id is not None:
            settings |= {"transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        return KafkaProducer(
            self._brokers,
            client_id=f"{self._job.name}-{self._job.slot}",
            transactional_id=transactional_id,
            batch_size=self.batch_bytes,
            linger_ms=0 if self.exactly_once else 1,
            max_record_bytes=64 * 1024 * 1024,
            settings=settings | self._settings,
        )
