"""The commit pipeline: epochs are made durable in the background, in order, while the engine goes on.

With a committer that allows it an epoch is encoded and sent while the one before is being finished.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.faults import fault_point
from thalweg.streams.connector import (
    Commit,
    Committer,
    OverlappingCommitter,
    PartitionEpoch,
    SinkWrite,
    SnapshotCommitter,
    StateRecord,
    TopicPartition,
)
from thalweg.streams.engine.snapshots import SnapshotUploads, Upload
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
    snapshot: Upload | None = None
    """All state as of this epoch, to be written beside the commits."""
    submitted: float = field(default_factory=time.monotonic)


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
    all_delta_bytes: int = 0
    """Deltas since the start."""
    checkpoints: int = 0
    abandoned: int = 0
    """Checkpoints that took too long, or failed."""
    to_encode: int = 0
    """Operators whose state the commit at hand, or the last one, writes."""
    encoded: int = 0
    """Those of them that are done."""
    finished: list[tuple[float, int | None]] = field(default_factory=list)
    """(when, oldest ingestion time in it) of commits not yet looked at; taken by the runner."""


class CommitPipeline:
    """Commits epochs in order: at most one at a time, or as many as an `OverlappingCommitter` takes.

    Each thread takes an epoch through both stages: it is encoded and prepared when the one before is prepared, and
    finished when the one before is finished.

    Args:
        committer: of the job; only the threads of this call it to commit.
        partitions: how many state partitions the state is laid out in.
        void_to: how many there were before; a full snapshot voids those that are no more.
        wake: set when a commit ends.
        timeout: seconds until a checkpoint in the background is abandoned.
    """

    def __init__(
        self,
        committer: Committer,
        partitions: int,
        void_to: int,
        key_groups: int,
        wake: threading.Event,
        timeout: float = 120.0,
    ) -> None:
        self.figures = CommitFigures()
        self.error: BaseException | None = None
        self._committer = committer
        self._ahead = committer if isinstance(committer, OverlappingCommitter) else None
        self._most = 1 if self._ahead is None else self._ahead.most_under_way
        self._partitions = partitions
        self._void_to = void_to
        self._key_groups = key_groups
        self._wake = wake
        self.snapshots: SnapshotUploads | None = None
        """Writes checkpoints in the background; None: they are part of a commit."""
        if isinstance(committer, SnapshotCommitter):
            self.snapshots = SnapshotUploads(committer, self._wire, timeout, wake)
        self._waiting: deque[tuple[int, Epoch]] = deque()
        self._under_way: deque[Epoch] = deque()
        self.submitted = 0
        """Epochs handed over so far."""
        self.durable = 0
        """How many of them are durable: always the first ones."""
        self._prepared = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"thalweg-commit-{number}", daemon=True)
            for number in range(self._most)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> bool:
        """Whether as many epochs are on their way as may be."""
        return len(self._under_way) >= self._most

    @property
    def idle(self) -> bool:
        """Whether no epoch is on its way."""
        return not self._under_way

    @property
    def busy_since(self) -> float | None:
        """When the oldest epoch on its way was submitted; None: there is none."""
        with self._changed:
            return self._under_way[0].submitted if self._under_way else None

    def submit(self, epoch: Epoch) -> None:
        """Starts to commit an epoch; not while the pipeline is busy."""
        with self._changed:
            self.check()
            if self.busy:
                raise RuntimeError("an epoch was submitted while another is on its way")
            self._waiting.append((self.submitted, epoch))
            self.submitted += 1
            if self.snapshots is not None and epoch.snapshot is not None:
                self.snapshots.announce(epoch.snapshot)
            self._under_way.append(epoch)
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until no epoch is on its way; false if one still is. Raises what a commit raised."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.idle or self.error is not None, timeout)
        self.check()
        return done

    @property
    def uploads(self) -> list[Upload]:
        """The checkpoints under way in the background."""
        return [] if self.snapshots is None else self.snapshots.under_way

    def ended_snapshots(self) -> list[tuple[Upload, bool]]:
        """The checkpoints in the background that have ended since the last call, and whether each is durable."""
        ended = [] if self.snapshots is None else self.snapshots.watch()
        for upload, durable in ended:
            figures = self.figures
            if durable:
                figures.checkpoints += 1
                figures.full_bytes = upload.size
                figures.delta_bytes = figures.all_delta_bytes - upload.deltas_before
            else:
                figures.abandoned += 1
        return ended

    def check(self) -> None:
        """Raises what a commit raised."""
        if self.error is not None:
            raise self.error

    def stop(self, timeout: float = 30.0) -> bool:
        """Ends the threads after the epochs on their way; false if those did not end in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        ended = self.snapshots is None or self.snapshots.stop(max(1.0, deadline - time.monotonic()))
        return ended and not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            try:
                self._commit(*taken)
            except BaseException as error:
                with self._changed:
                    self.error = self.error or error
                    self._changed.notify_all()
            self._wake.set()

    def _next(self) -> tuple[int, Epoch] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping or self.error is not None)
            return self._waiting.popleft() if self._waiting and self.error is None else None

    def _reached(self, turn: Callable[[], bool]) -> bool:
        """Waits for a turn; false if it won't come, as another epoch has failed."""
        with self._changed:
            self._changed.wait_for(lambda: turn() or self.error is not None)
            return turn()

    def _commit(self, number: int, epoch: Epoch) -> None:
        if not self._reached(lambda: self._prepared == number):
            return
        started = time.monotonic()
        fault_point("engine.handed-over")
        states = self._encode(epoch)
        fault_point("engine.encoded")
        commit = Commit(epoch.epochs, epoch.writes, states, epoch.number, epoch.snapshot is not None)
        if not self._make_durable(number, commit, epoch.snapshot):
            return
        fault_point("engine.durable")
        size = sum(len(record.payload) for record in states)
        with self._changed:
            self._prepared, self.durable = max(self._prepared, number + 1), number + 1
            self._book(epoch, size, (time.monotonic() - started) * 1000)
            self._under_way.popleft()
            self._changed.notify_all()
        if self.snapshots is not None and epoch.snapshot is not None:
            epoch.snapshot.deltas_before = self.figures.all_delta_bytes
            self.snapshots.start(epoch.snapshot)

    def _make_durable(self, number: int, commit: Commit, snapshot: Upload | None) -> bool:
        """False where it was abandoned, as the epoch before has failed."""
        if self._ahead is None:
            self._committer.commit(commit)
            return True
        if self.snapshots is not None:
            self.snapshots.adopt()
        prepared = self._ahead.prepare(commit)
        with self._changed:
            self._prepared = number + 1
            self._changed.notify_all()
        if not self._reached(lambda: self.durable == number):
            self._ahead.abandon(prepared)
            return False
        self._ahead.finish(prepared)
        if self.snapshots is not None and snapshot is not None:
            snapshot.taken = self.snapshots.committer.taken_snapshot(prepared)
        return True

    def _encode(self, epoch: Epoch) -> list[StateRecord]:
        self.figures.to_encode, self.figures.encoded = len(epoch.deltas), 0
        records: list[StateRecord] = []
        for delta in epoch.deltas:
            records += self._wire(delta)
            self.figures.encoded += 1
        return records

    def _wire(self, delta: PlacedDelta) -> list[StateRecord]:
        return encode_placed(delta, self._partitions, self._void_to, groups=self._key_groups)

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
            figures.all_delta_bytes += size
        figures.finished.append((time.monotonic(), epoch.oldest_ingested))
