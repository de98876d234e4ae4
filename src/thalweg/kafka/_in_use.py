"""Who is inside a client: it must not go away under a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thalweg.errors import ConnectorError


class InUse:
    """Counts the calls under way; `close` waits for those of other threads."""

    def __init__(self) -> None:
        self.closing = False
        self._count = 0
        self._idle = threading.Condition()
        self._mine = threading.local()
        self._finish: Callable[[], None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """A call that uses the client.

        Raises:
            ConnectorError: it is closed.
        """
        with self._idle:
            if self.closing:
                raise ConnectorError("the consumer is closed")
            self._count += 1
        depth = getattr(self._mine, "depth", 0)
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._idle:
                self._count -= 1
                self._idle.notify_all()
            if not depth and self._finish is not None:
                self._finish_once()

    def close(self, wake: Callable[[], None], finish: Callable[[], None]) -> None:
        """Lets nobody in any more, and calls `finish` when the last is out; once, however often this is called.

        By a callback, which runs inside a call of its own thread, it returns at once: the call finishes when it ends.

        Args:
            wake: ends the waiting of those who are inside.
        """
        with self._idle:
            if self.closing:
                return
            self.closing = True
            self._finish = finish
            wake()
        if not getattr(self._mine, "depth", 0):
            self._finish_once()

    def _finish_once(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: self._count == 0)
            finish, self._finish = self._finish, None
        if finish is not None:
            finish()
