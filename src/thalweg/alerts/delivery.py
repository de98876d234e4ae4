"""Delivers what the store owes the channels: at least once, retried with growing, jittered pauses."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping

from thalweg.alerts.channels.base import Channel, DeliveryError
from thalweg.alerts.store import Notification, SqliteStore
from thalweg.errors import ConnectorError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 300.0
"""Seconds."""
MAX_ATTEMPTS = 200
"""About 16 hours of an unreachable channel; then the notification is marked failed, with its last error."""
IDLE = 1.0


class Delivery:
    """One thread that sends due notifications.

    Args:
        store: where they are.
        channels: by name; looked up at each attempt.
        clock: now, ms UTC.
    """

    def __init__(self, store: SqliteStore, channels: Mapping[str, Channel], clock: Callable[[], int]) -> None:
        self._store = store
        self._channels = channels
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._random = random.Random()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begins, with what an earlier process has left."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="thalweg-alerts", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Says that there may be something to send."""
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Sends what is due now, then ends; what is left stays in the store."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def flush(self, timeout: float) -> bool:
        """Waits until nothing is pending; false if something still is."""
        deadline = time.monotonic() + timeout
        self._wake.set()
        while self._store.next_due() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                ending = self._stopping
                try:
                    self.send_due()
                except (ConnectorError, sqlite3.Error) as error:
                    # A store that is locked or full for a while must not end delivery for good.
                    logger.error("alert delivery: %s; trying again", error)
                    if not ending:
                        self._wake.wait(IDLE)
                        continue
                if ending:
                    return
                self._wake.wait(self._pause())
        except BaseException as error:
            self.error = error
            logger.exception("alert delivery ended; pending notifications stay in the store")

    def _pause(self) -> float:
        due = self._store.next_due()
        return IDLE if due is None else min(IDLE, max(0.0, (due - self._clock()) / 1000))

    def send_due(self) -> int:
        """Sends what is due; returns how many got through."""
        sent = 0
        while notifications := self._store.due(self._clock()):
            for notification in notifications:
                sent += self._send(notification)
        return sent

    def _send(self, notification: Notification) -> bool:
        channel = self._channels.get(notification.channel)
        alert = self._store.get(notification.alert)
        if channel is None or alert is None:
            # The program that left it had this channel; a later one that has it again will send it.
            self._store.postpone(
                notification, self._clock() + int(LONGEST_PAUSE * 1000), "no such channel in this process"
            )
            return False
        try:
            channel.send(alert, notification.key)
        except DeliveryError as error:
            self._failed(notification, str(error), error.retry_after, error.final)
            return False
        except Exception as error:
            # A channel of the user's own: its faults are its own, and must not keep other alerts back.
            logger.exception("channel %r failed", notification.channel)
            self._failed(notification, f"{type(error).__name__}: {error}", None, False)
            return False
        self._store.delivered(notification)
        return True

    def _failed(self, notification: Notification, error: str, retry_after: float | None, final: bool) -> None:
        if final or notification.attempts + 1 >= MAX_ATTEMPTS:
            logger.error("alert %s will not reach channel %r: %s", notification.alert, notification.channel, error)
            self._store.give_up(notification, error)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(notification.attempts, 20)) * self._random.uniform(0.5, 1.0)
        pause = max(pause, retry_after or 0.0)
        logger.warning("channel %r: %s; trying again in %.1f s", notification.channel, error, pause)
        self._store.postpone(notification, self._clock() + int(pause * 1000), error)
