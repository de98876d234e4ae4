"""The commit pipeline: one epoch at a time is made durable in the background while the engine goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.faults import fault_point
from thalweg.streams.connector import Commit, Committer, PartitionEpoch, SinkWrite, StateRecord, TopicPartition
from thalweg.streams.engine.state_codec import PlacedDelta, encode_placed


@dataclass(slots=True)
class Epoch:
    """What the engine hands over at a commit boundary; nothing in it changes afterwards."""

    epochs: Mapping[TopicPartition, PartitionEpoch]
    writes: Sequence[SinkWrite]
    deltas: Sequence[PlacedDelta]
    full: bool
    """The deltas are a checkpoint: all state of all operators."""
    number: int
    oldest_ingested: int | None = None
    """When the oldest row of the epoch was read, for the latency."""


@dataclass(slots=True)
class CommitFigures:
    """What the commits of a running job cost."""

    count: int = 0
    last_ms: float = 0.0
    longest_ms: float = 0.0
    last_bytes: int = 0
    """State in the last commit, in wire form."""
    full_bytes: int = 0
    """Size of the last full snapshot."""
    delta_bytes: int = 0
    """Deltas since then."""
    checkpoints: int = 0
    to_encode: int = 0
    """Operators whose state the commit at hand, or the last one, writes."""
    encoded: int = 0
    """Those of them that are done."""
    finished: list[tuple[float, int | None]] = field(default_factory=list)
    """(when, oldest ingestion time in it) of commits not yet looked at; taken by the runner."""


class CommitPipeline:
    """Commits epochs on a thread of its own, at most one at a time.

    Args:
        committer: of the job; only this thread calls its `commit`.
        partitions: how many state partitions the state is laid out in.
        void_to: how many there were before; a full snapshot voids those that are no more.
        wake: set when a commit ends.
    """

    def __init__(
        self, committer: Committer, partitions: int, void_to: int, key_groups: int, wake: threading.Event
    ) -> None:
        self.figures = CommitFigures()
        self.error: BaseException | None = None
        self.busy_since: float | None = None
        self._committer = committer
        self._partitions = partitions
        self._void_to = void_to
        self._key_groups = key_groups
        self._wake = wake
        self._epoch: Epoch | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="thalweg-commit", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether an epoch is on its way."""
        return self._epoch is not None

    def submit(self, epoch: Epoch) -> None:
        """Starts to commit an epoch; the one before must be done."""
        with self._changed:
            self.check()
            if self._epoch is not None:
                raise RuntimeError("an epoch was submitted while another is on its way")
            self.busy_since = time.monotonic()
            self._epoch = epoch
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no epoch is on its way; false if one still is. Raises what the commit raised."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._epoch is None or self.error is not None, timeout)
        self.check()
        return done

    def check(self) -> None:
        """Raises what the commit raised."""
        if self.error is not None:
            raise self.error

    def stop(self, timeout: float = 30.0) -> bool:
        """Ends the thread after the epoch on its way; false if that did not end in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (epoch := self._next()) is not None:
            try:
                self._commit(epoch)
            except BaseException as error:
                self.error = error
            with self._changed:
                self._epoch = None
                self.busy_since = None
                self._changed.notify_all()
            self._wake.set()
            if self.error is not None:
                return

    def _next(self) -> Epoch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._epoch is not None or self._stopping)
            return self._epoch

    def _commit(self, epoch: Epoch) -> None:
        started = time.monotonic()
        fault_point("engine.handed-over")
        states = self._encode(epoch)
        fault_point("engine.encoded")
        self._committer.commit(Commit(epoch.epochs, epoch.writes, states, epoch.number))
        fault_point("engine.durable")
        self._book(epoch, sum(len(record.payload) for record in states), (time.monotonic() - started) * 1000)

    def _encode(self, epoch: Epoch) -> list[StateRecord]:
        self.figures.to_encode, self.figures.encoded = len(epoch.deltas), 0
        records: list[StateRecord] = []
        for delta in epoch.deltas:
            records += encode_placed(delta, self._partitions, self._void_to, groups=self._key_groups)
            self.figures.encoded += 1
        return records

    def _book(self, epoch: Epoch, size: int, elapsed_ms: float) -> None:
        figures = self.figures
        figures.count += 1
        figures.last_ms = elapsed_ms
        figures.longest_ms = max(figures.longest_ms, elapsed_ms)
        figures.last_bytes = size
        if epoch.full:
            figures.checkpoints += 1
            figures.full_bytes, figures.delta_bytes = size, 0
        else:
            figures.delta_bytes += size
        figures.finished.append((time.monotonic(), epoch.oldest_ingested))
