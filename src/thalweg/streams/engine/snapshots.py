"""Checkpoints in the background: snapshots taken at a commit boundary, written while the commits go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import ThalwegError
from thalweg.faults import fault_point
from thalweg.streams.connector import SnapshotCommitter, StateRecord
from thalweg.streams.engine.state_codec import PlacedDelta

logger = logging.getLogger(__name__)

Encode = Callable[[PlacedDelta], list[StateRecord]]


@dataclass(eq=False, slots=True)
class Upload:
    """One snapshot on its way."""

    deltas: Sequence[PlacedDelta]
    since: float
    """When it was taken, by the monotonic clock."""
    taken: Any = None
    """What stands for it with the committer."""
    deltas_before: int = 0
    """Bytes of deltas that were committed up to it."""
    encoded: int = 0
    """Operators whose state is in wire form."""
    size: int = 0
    """Bytes, as far as it is in wire form."""
    given_up: bool = False
    operators: int = field(init=False)
    """How many there are."""

    def __post_init__(self) -> None:
        self.operators = len(self.deltas)


class SnapshotUploads:
    """Writes snapshots on threads of their own, and keeps what is written until the next epoch can build on it.

    A snapshot that fails or takes too long is abandoned: what was committed before stands, and the job goes on.

    Args:
        committer: of the job.
        encode: one operator's state in wire form.
        timeout: seconds from the boundary until a snapshot is abandoned.
        wake: set when one has ended.
    """

    def __init__(self, committer: SnapshotCommitter, encode: Encode, timeout: float, wake: threading.Event) -> None:
        self.committer = committer
        self._encode = encode
        self._timeout = timeout
        self._wake = wake
        self._lock = threading.Lock()
        self._under_way: list[Upload] = []
        self._written: list[Upload] = []
        self._ended: list[tuple[Upload, bool]] = []
        self._threads: list[threading.Thread] = []

    @property
    def under_way(self) -> list[Upload]:
        """Those that are neither written nor abandoned, oldest first."""
        with self._lock:
            return list(self._under_way)

    def announce(self, upload: Upload) -> None:
        """It was taken, and counts as under way; its epoch is yet to become durable."""
        with self._lock:
            self._under_way.append(upload)

    def start(self, upload: Upload) -> None:
        """Its epoch is durable: write it."""
        thread = threading.Thread(target=self._run, args=(upload,), name="thalweg-checkpoint", daemon=True)
        with self._lock:
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
        thread.start()

    def adopt(self) -> None:
        """Has the committer build on what is written. Called by the thread that prepares, before it does."""
        with self._lock:
            written, self._written = self._written, []
        for upload in written:
            self.committer.adopt_snapshot(upload.taken)

    def watch(self) -> list[tuple[Upload, bool]]:
        """Abandons what has taken too long; gives what has ended since the last call, and whether it is durable."""
        now = time.monotonic()
        for upload in self.under_way:
            if now - upload.since > self._timeout:
                self._end(upload, durable=False, why=f"it was not durable after {self._timeout:g} s")
        with self._lock:
            ended, self._ended = self._ended, []
        return ended

    def stop(self, timeout: float) -> bool:
        """Abandons what is under way; false if a thread does not end in time."""
        for upload in self.under_way:
            self._end(upload, durable=False, why=None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, upload: Upload) -> None:
        try:
            records: list[StateRecord] = []
            for delta in upload.deltas:
                if upload.given_up:
                    return
                records += self._encode(delta)
                upload.size = sum(len(record.payload) for record in records)
                upload.encoded += 1
            fault_point("snapshot.encoded")
            self.committer.write_snapshot(upload.taken, records, upload.since + self._timeout)
            fault_point("snapshot.written")
        except ThalwegError as error:
            self._end(upload, durable=False, why=str(error))
            return
        except BaseException as error:
            logger.exception("a checkpoint failed")
            self._end(upload, durable=False, why=repr(error))
            return
        self._end(upload, durable=True)

    def _end(self, upload: Upload, *, durable: bool, why: str | None = None) -> None:
        with self._lock:
            if upload.given_up or upload not in self._under_way:
                return  # it was abandoned before
            self._under_way.remove(upload)
            upload.given_up = not durable
            upload.deltas = ()
            self._ended.append((upload, durable))
            if durable:
                self._written.append(upload)
        if why is not None:
            logger.warning("a checkpoint was abandoned, the job goes on from the one before: %s", why)
        self._wake.set()
