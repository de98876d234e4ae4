"""Reads one topic of the embedded log for a job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from thalweg.connectors.sqlite.codec import Chunk, to_raw
from thalweg.connectors.sqlite.topics import Topic, Topics
from thalweg.errors import ConfigurationError, ConnectorError, NotReady
from thalweg.formats.dead_records import dead_records
from thalweg.formats.patience import Patience, serves_others
from thalweg.records import Decoded, Decoder, RawRecords
from thalweg.streams.batch import INGESTED, OFFSET, PARTITION, TIMESTAMP
from thalweg.streams.connector import JobSettings, SourceBatch

log = logging.getLogger("thalweg.sqlite")


class SqliteSource:
    """`Source` over the embedded log. All partitions belong to the one worker.

    Args:
        topics: through a connection of the source's own.
        topic: what to read.
        decoder: turns the records into columns.
        job: gives the start setting and the clock.
        broker_timestamps: add the records' time as `__ts`.
        on_trimmed: what to do when retention has removed events before the job read them: "error" (the job stops and
            says so) or "skip" (it goes on with the oldest there is, and logs how many are gone).
    """

    def __init__(
        self,
        topics: Topics,
        topic: str,
        decoder: Decoder,
        job: JobSettings,
        *,
        broker_timestamps: bool = False,
        on_trimmed: str = "error",
    ) -> None:
        if job.start not in ("earliest", "latest"):
            raise ConfigurationError(f'start is {job.start!r}; use "earliest" or "latest"')
        self.topic = topic
        self._topics = topics
        serves_others(decoder)
        self._decoder = decoder
        self._job = job
        self._clock = job.clock or _wall_clock
        self._broker_timestamps = broker_timestamps
        self._on_trimmed = on_trimmed
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._pending: dict[int, Chunk] = {}
        self._waiting: set[int] = set()
        """Partitions that stand at a record whose decoder is not ready."""
        self._patience = Patience(topic)
        self._woken = threading.Event()
        self._watching = False
        self._turn = 0

    def open(self) -> Sequence[int]:
        if not self._watching:
            self._topics.database.signal.watch()
            self._watching = True
        ends = self._topics.ends(self._find())
        self._positions = {p: (end if self._job.start == "latest" else start) for p, (start, end) in ends.items()}
        self._ends = {p: end for p, (_, end) in ends.items()}
        self._pending.clear()
        self._waiting = set()
        return sorted(ends)

    def seek(self, positions: Mapping[int, int]) -> None:
        for partition, position in positions.items():
            if partition not in self._positions:
                raise ConnectorError(
                    f"topic {self.topic!r} has no partition {partition}, but the job's last commit names it; "
                    "was the log replaced?"
                )
            if position > self._ends[partition]:
                raise ConnectorError(
                    f"topic {self.topic!r}, partition {partition} ends at offset {self._ends[partition]}, but the "
                    f"job's last commit is at {position}; was the log replaced?"
                )
            self._positions[partition] = position
            self._waiting.discard(partition)
            self._pending.pop(partition, None)

    def poll(self, max_rows: int, timeout_ms: int) -> SourceBatch | None:
        deadline = time.monotonic() + timeout_ms / 1000
        signal = self._topics.database.signal
        while not self._woken.is_set():
            seen = signal.version  # before the look, so that nothing that comes meanwhile is slept through
            if (chunks := self._take(max_rows)) and (batch := self._decode(chunks)) is not None:
                return batch
            rest = max(0.0, deadline - time.monotonic())
            again = self._patience.remaining if self._waiting else rest
            if not signal.wait(seen, min(rest, again)) and rest <= again:
                return None
        self._woken.clear()
        return None

    def _take(self, max_rows: int) -> list[Chunk]:
        """Up to `max_rows` records: the same share of each partition first, so that their times advance together."""
        ends = self._topics.ends(self._find())
        self._ends = {p: end for p, (_, end) in ends.items()}
        waiting = self._waiting if self._patience.remaining else ()
        ready = [p for p in ends if p in self._positions and self._positions[p] < self._ends[p] and p not in waiting]
        if not ready:
            return []
        self._turn += 1
        first = self._turn % len(ready)
        share = max(1, max_rows // len(ready))
        chunks: list[Chunk] = []
        missing = max_rows
        for partition in ready[first:] + ready[:first]:
            if missing <= 0:
                break
            taken = self._take_from(partition, min(share, missing), ends[partition][0])
            missing -= sum(map(len, taken))
            chunks += taken
        return chunks

    def _take_from(self, partition: int, limit: int, log_start: int) -> list[Chunk]:
        position = self._positions[partition]
        chunk = self._pending.pop(partition, None)
        if chunk is None and position < log_start:
            position = self._skip_trimmed(partition, position, log_start)
        chunks = [chunk] if chunk else self._topics.fetch(self._find(), partition, position, limit)
        if chunks and int(chunks[0].offset[0]) > position:  # trimmed between the two reads
            position = self._skip_trimmed(partition, position, int(chunks[0].offset[0]))
        surplus = sum(map(len, chunks)) - limit
        if surplus > 0:
            last = chunks[-1]
            self._pending[partition] = last.slice(len(last) - surplus)
            chunks[-1] = last.slice(0, len(last) - surplus)
        if chunks:
            position = int(chunks[-1].offset[-1]) + 1
        self._positions = {**self._positions, partition: position}
        return chunks

    def _skip_trimmed(self, partition: int, position: int, log_start: int) -> int:
        gone = (
            f"topic {self.topic!r}, partition {partition}: retention removed {log_start - position} events "
            f"(offsets {position} to {log_start - 1}) before the job read them"
        )
        if self._on_trimmed == "error":
            raise ConnectorError(f"{gone}; raise the topic's retention, or go on without them by on_trimmed='skip'")
        log.warning("%s; going on with the oldest there is", gone)
        return log_start

    def _decode(self, chunks: list[Chunk]) -> SourceBatch | None:
        """The batch; None where no record of it can be decoded now. Partitions in which one can't wait there."""
        late: set[int] = set()
        while chunks:
            raw = to_raw(self.topic, chunks)
            try:
                decoded = self._decoder.decode(raw)
            except NotReady as error:
                first = _first_late(raw, error)
                raw.release()
                self._wait_at(first, error)
                late |= first.keys()
                cut = [chunk.slice(0, _before(chunk, first.get(chunk.partition))) for chunk in chunks]
                chunks = [chunk for chunk in cut if len(chunk)]
                continue
            self._waiting -= {chunk.partition for chunk in chunks} - late
            if not self._waiting:
                self._patience.came()
            return self._batch(raw, decoded)
        return None

    def _wait_at(self, first: Mapping[int, int], error: NotReady) -> None:
        """Goes back to the first record of each of these partitions that can't be decoded yet."""
        for partition in first:
            self._pending.pop(partition, None)
        self._positions = {**self._positions, **first}
        # A further partition does not put the next try off.
        if not self._patience.is_waiting or self._waiting & first.keys():
            self._patience.lacks(error, sorted(first))
        self._waiting |= first.keys()

    def _batch(self, raw: RawRecords, decoded: Decoded) -> SourceBatch:
        now = self._clock()
        rows: slice | np.ndarray[tuple[int], np.dtype[np.int64]] = slice(None) if decoded.rows is None else decoded.rows
        origin = [
            pl.Series(PARTITION, raw.partition[rows], dtype=pl.Int32),
            pl.Series(OFFSET, raw.offset[rows], dtype=pl.Int64),
            pl.Series(INGESTED, np.full(len(raw.offset[rows]), now, dtype=np.int64)),
        ]
        if self._broker_timestamps:
            origin.append(pl.Series(TIMESTAMP, raw.timestamp[rows], dtype=pl.Int64))
        frame = decoded.frame.with_columns(origin) if decoded.frame.width else pl.DataFrame(origin)
        batch = SourceBatch(frame, dead_records(raw, decoded.errors), _moved(raw), len(raw))
        raw.release()
        return batch

    def caught_up(self) -> frozenset[int]:
        ends, positions = self._ends, self._positions
        return frozenset(p for p, position in positions.items() if position >= ends[p])

    def lag(self) -> Mapping[int, int]:
        ends, positions = self._ends, self._positions
        return {p: max(0, ends[p] - position) for p, position in positions.items()}

    def wake(self) -> None:
        self._woken.set()
        self._topics.database.signal.notify()

    def close(self) -> None:
        if self._watching:
            self._topics.database.signal.unwatch()
            self._watching = False
        self._topics.database.close()

    def _find(self) -> Topic:
        return self._topics.find(self.topic)


def _first_late(raw: RawRecords, error: NotReady) -> dict[int, int]:
    """By partition, the offset of the first record that can't be decoded."""
    late = slice(None) if error.rows is None else list(error.rows)
    partitions, rows = np.unique(raw.partition[late], return_index=True)
    return dict(zip(partitions.tolist(), raw.offset[late][rows].tolist(), strict=True))


def _before(chunk: Chunk, offset: int | None) -> int:
    """How many of the chunk's records lie before an offset."""
    return len(chunk) if offset is None else int(np.searchsorted(chunk.offset, offset))


def _moved(raw: RawRecords) -> dict[int, int]:
    """The next offset of each partition in it: offsets ascend within a partition."""
    last = len(raw) - 1 - np.unique(raw.partition[::-1], return_index=True)[1]
    return {int(raw.partition[row]): int(raw.offset[row]) + 1 for row in last}


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000
