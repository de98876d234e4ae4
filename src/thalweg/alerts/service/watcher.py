"""Looks at the store for all who want live updates: one look per change, however many listen."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from thalweg.alerts.alert import Alert
from thalweg.alerts.manager import AlertManager
from thalweg.errors import ConnectorError

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds for which it waits for a change at most, and after a failure of the store."""
PAGE = 500
MOST_WAITING = 5_000
"""Alerts that may wait for one slow listener; then it is sent away, and can go on from where it was."""
MOST_LISTENERS = 500
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Update:
    """An alert as it is after the change of this number, as JSON. Whoever has seen it asks for what came after it."""

    number: int
    alert: str


class TooMany(Exception):
    """No further listener is taken."""


@dataclass(eq=False)
class Listener:
    """What waits for one listener: of each alert the latest state, so that a slow one misses steps, never the end."""

    loop: asyncio.AbstractEventLoop
    waiting: OrderedDict[str, Update] = field(default_factory=OrderedDict)
    lost: bool = False
    """It was too slow: what waited for it was thrown away."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, updates: dict[str, Update]) -> None:
        """Adds what has changed; called in its event loop."""
        for id, update in updates.items():
            self.waiting.pop(id, None)
            self.waiting[id] = update
        if len(self.waiting) > MOST_WAITING:
            self.lost = True
            self.waiting.clear()
        self._wake.set()

    async def take(self, timeout: float) -> list[Update]:
        """What has changed since the last call, once something has; empty: nothing did in that time."""
        if not self.waiting and not self.lost:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                return []
        found = list(self.waiting.values())
        self.waiting.clear()
        return found


class Watcher:
    """Tells listeners what changes in the store, whoever changes it. Its thread runs while anybody listens."""

    def __init__(self, manager: AlertManager) -> None:
        self._manager = manager
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self.looks = 0
        """How often it has read changes from the store; not how often that was asked whether there are any."""

    def join(self) -> Listener:
        """A new listener: it hears of every change from now on.

        Raises:
            TooMany: there are so many already that one more is not taken.
        """
        listener = Listener(asyncio.get_running_loop())
        with self._lock:
            if len(self._listeners) >= MOST_LISTENERS:
                raise TooMany
            if self._thread is None:
                since = self._manager.store.last_change()
                self._thread = threading.Thread(
                    target=self._run, args=(since,), name="thalweg-alerts-live", daemon=True
                )
                self._thread.start()
            self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """It hears nothing any more."""
        with self._lock:
            self._listeners.discard(listener)

    def now(self, newest: int) -> list[Update]:
        """The newest alerts as they are, oldest first, and the change after which they are so."""
        number = self._manager.store.last_change()
        return [_update(number, alert) for alert in reversed(self._manager.list(limit=newest))]

    def since(self, number: int) -> list[Update]:
        """What has changed after a change, up to now."""
        found: list[Update] = []
        while page := self._manager.store.changed(number, PAGE):
            found += [_update(number, alert) for number, alert in self._read(page)]
            number = page[-1][0]
        return found

    def close(self) -> None:
        """Ends the thread."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join(10)

    def _run(self, since: int) -> None:
        while True:
            with self._lock:
                if self._closed or not self._listeners:
                    self._thread = None
                    return
            try:
                since = self._look(since)
            except ConnectorError as error:
                logger.error("alerts: live updates: %s; trying again", error)
                time.sleep(PAUSE)

    def _look(self, since: int) -> int:
        """Waits for a change, and tells of all there are; returns the number of the last."""
        store = self._manager.store
        if not store.wait(since, PAUSE):
            return min(since, store.last_change())  # a store that was emptied begins to count anew
        self.looks += 1
        page = store.changed(since, PAGE)
        updates = {alert.id: _update(number, alert) for number, alert in self._read(page) if self._is_new(alert)}
        if updates:
            with self._lock:
                listeners = list(self._listeners)
            for listener in listeners:
                with suppress(RuntimeError):  # its event loop has ended
                    listener.loop.call_soon_threadsafe(listener.put, updates)
        return page[-1][0] if page else since

    def _read(self, page: list[tuple[int, str]]) -> list[tuple[int, Alert]]:
        alerts = self._manager.store.get(id for _, id in page)
        return [(number, alerts[id]) for number, id in page if id in alerts]

    def _is_new(self, alert: Alert) -> bool:
        """Whether the alert itself has changed, and not only what is noted beside it (messages that got through)."""
        before = self._revisions.pop(alert.id, None)
        self._revisions[alert.id] = alert.revision
        if len(self._revisions) > _REMEMBERED:
            self._revisions.popitem(last=False)
        return before != alert.revision


def _update(number: int, alert: Alert) -> Update:
    return Update(number, json.dumps(alert.payload()))
