"""Tasks that this process has taken, and how long others keep away from them: prolonged as long as it works on them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from thalweg.alerts.store.base import Store, Task
from thalweg.errors import ConnectorError

logger = logging.getLogger(__name__)


class Leases:
    """What is taken and not done yet. A slow channel must not let another instance say the same once more.

    Args:
        lease: ms for which a task is taken; prolonged when a third of that is over.
        clock: now, ms UTC.
    """

    def __init__(self, store: Store, clock: Callable[[], int], lease: int) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def take(self, owner: str, lane: str | None, limit: int) -> list[Task]:
        """Takes tasks that are due."""
        now = self._clock()
        tasks = self._store.claim(owner, lane, now, self._lease, limit)
        with self._lock:
            self._held.update({task.id: now + self._lease for task in tasks})
        return tasks

    def holds(self, task: Task) -> bool:
        """Whether a task is still ours; prolongs what is about to end."""
        self.renew()
        with self._lock:
            return self._held.get(task.id, 0) > self._clock()

    def release(self, tasks: Iterable[Task]) -> None:
        """They are done, or put off."""
        with self._lock:
            for task in tasks:
                self._held.pop(task.id, None)

    def renew(self) -> None:
        """Prolongs what has less than two thirds of its lease left; forgets what is no longer ours."""
        with self._lock:
            now = self._clock()
            soon = {id: until for id, until in self._held.items() if until - now < self._lease * 2 // 3}
            if not soon:
                return
            renewed = self._store.renew(soon, now + self._lease)
            for id in soon:
                if id in renewed:
                    self._held[id] = now + self._lease
                else:
                    del self._held[id]

    def keep(self) -> None:
        """Prolongs until `end`, for a thread of its own: the others may wait for a channel."""
        while not self._ended.wait(self._lease / 3_000):
            try:
                self.renew()
            except ConnectorError as error:
                logger.error("alerts: leases were not prolonged: %s; trying again", error)

    def end(self) -> None:
        """Ends `keep`."""
        self._ended.set()
