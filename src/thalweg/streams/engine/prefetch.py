"""Reading ahead: one thread per source polls and decodes while the engine computes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

from thalweg.streams.connector import Source, SourceBatch

MAX_BYTES = 256 * 1024 * 1024
"""Polling pauses while the queued frames hold more than this, however few records they are."""
POLL_MS = 100
"""How long a poll waits where nothing has come; a stop does not wait for it (`Source.wake`)."""

LEAST_GATHER, MOST_GATHER = 0.002, 0.010
"""Seconds from one poll to the next while few records come at a time. What has come is handed on at once; what follows
is gathered meanwhile: a poll, a decode and a pass through the plan cost the same for one record as for hundreds."""
PASSES = 3
"""How many passes through the plan that time is: they take at most a third of the engine's thread, however small the
batches are, and what waits for that core (the broker, where it shares it) finds it free."""
SMOOTHING = 1 / 16
"""Weight of the newest pass: one that closes a window costs more than those between."""
FEW = 4096
"""Records from which on a poll is worth its cost, and the next follows at once."""


class Prefetcher:
    """Polls a source into a bounded queue; librdkafka, SQLite and the decoders run without the interpreter lock.

    Args:
        source: open and at its position.
        wake: set when something came, when an error did, and at the end.
        max_rows: the most records that one poll takes.
        capacity: polling pauses while this many records are queued.
    """

    def __init__(self, source: Source, wake: threading.Event, *, max_rows: int, capacity: int) -> None:
        self.source = source
        self.error: BaseException | None = None
        self._wake = wake
        self._max_rows = max_rows
        self._capacity = capacity
        self._pass = 0.0
        self._queue: deque[SourceBatch] = deque()
        self._queued = 0
        self._bytes = 0
        self._caught_up: frozenset[int] = frozenset()
        self._lag: Mapping[int, int] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"thalweg-read-{source.topic}", daemon=True)

    def start(self) -> None:
        """Begins to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; what it has queued stays unprocessed, and so uncommitted."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.source.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, max_rows: int) -> list[SourceBatch]:
        """What has come, oldest first: at least one batch where there is one, further ones up to `max_rows`."""
        taken: list[SourceBatch] = []
        rows = 0
        with self._changed:
            while self._queue and (not taken or rows + self._queue[0].received <= max_rows):
                batch = self._queue.popleft()
                rows += batch.received
                self._bytes -= _size(batch)
                taken.append(batch)
            self._queued -= rows
            self._changed.notify_all()
        return taken

    def passed(self, seconds: float) -> None:
        """How long the engine took for what it last took, watermarks included: few records wait for as many passes."""
        self._pass += SMOOTHING * (seconds - self._pass)

    @property
    def gather(self) -> float:
        """Seconds from one poll to the next while few records come at a time."""
        return min(MOST_GATHER, max(LEAST_GATHER, PASSES * self._pass))

    @property
    def queued(self) -> int:
        """Records read and not yet taken."""
        return self._queued

    @property
    def queued_bytes(self) -> int:
        """How large they are in memory."""
        return self._bytes

    @property
    def capacity(self) -> int:
        """Polling pauses while this many records are queued."""
        return self._capacity

    def caught_up(self) -> frozenset[int]:
        """Partitions read to their end *and* taken to the last record."""
        with self._changed:
            return frozenset() if self._queue else self._caught_up

    def lag(self) -> dict[int, int]:
        """Records between the position and the end, per partition."""
        return dict(self._lag)

    def _run(self) -> None:
        try:
            while self._has_room():
                started = time.monotonic()
                batch = self.source.poll(self._max_rows, POLL_MS)
                caught_up, lag = self.source.caught_up(), self.source.lag()
                with self._changed:
                    self._caught_up, self._lag = caught_up, lag
                    if batch is not None:
                        self._queue.append(batch)
                        self._queued += batch.received
                        self._bytes += _size(batch)
                if batch is not None:
                    self._wake.set()
                    if batch.received < FEW:
                        time.sleep(max(0.0, started + self.gather - time.monotonic()))
        except BaseException as error:
            self.error = error
        finally:
            self._wake.set()

    def _has_room(self) -> bool:
        """Waits while the queue is full; false when it is time to end."""
        with self._changed:
            while (self._queued >= self._capacity or self._bytes >= MAX_BYTES) and not self._stopping:
                self._changed.wait()
            return not self._stopping


def _size(batch: SourceBatch) -> int:
    return int(batch.frame.estimated_size()) + (0 if batch.dead is None else int(batch.dead.estimated_size()))
