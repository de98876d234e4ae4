"""Deletes records that a job no longer needs from its internal topics."""

from __future__ import annotations

import logging
import threading

from thalweg.errors import ConnectorError
from thalweg.kafka.admin import KafkaAdmin

logger = logging.getLogger("thalweg.kafka")


class Trimmer:
    """Deletes on a thread of its own: no commit waits for it."""

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin
        self._wanted: dict[str, dict[int, int]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Has the records of a partition before an offset deleted, soon."""
        with self._changed:
            self._wanted.setdefault(topic, {})[partition] = before
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="thalweg-kafka-trim", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends after what is under way; what was not deleted is deleted after the next full snapshot."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                if not self._wanted:
                    return
                wanted, self._wanted = self._wanted, {}
            for topic, before in wanted.items():
                self._delete(topic, before)

    def _delete(self, topic: str, before: dict[int, int]) -> None:
        try:
            self._admin.delete_records(topic, before)
        except ConnectorError as error:
            # Nothing is wrong with the job: the log is longer than it needs to be until the next time.
            logger.warning("old records of %r were not deleted: %s", topic, error)
