"""Lets one thread sleep until librdkafka has something, another thread calls, or time is up."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress


class Waker:
    """A pair of connected sockets: librdkafka and `wake` write to one end, `wait` sleeps on the other."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)

    def fileno(self) -> int:
        """What to write to."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Ends a `wait`, or the next one. From any thread, also after `close`."""
        with suppress(OSError):  # full (so it will wake anyway), or closed (so nobody waits)
            self._writer.send(b"w")

    def wait(self, seconds: float) -> None:
        """Sleeps until woken, or for so long."""
        if self._selector.select(max(0.0, seconds)):
            with suppress(BlockingIOError):
                while len(self._reader.recv(4096)) == 4096:
                    pass

    def close(self) -> None:
        self._selector.close()
        self._reader.close()
        self._writer.close()
