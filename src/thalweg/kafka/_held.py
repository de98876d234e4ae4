"""Records whose decoder is not ready: kept in their order, while their partitions are paused and the others go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np

from thalweg.errors import NotReady
from thalweg.formats.patience import Patience
from thalweg.kafka._records import divide, without
from thalweg.records import RawRecords

T = TypeVar("T")
TopicPartition = tuple[str, int]
Positions = dict[TopicPartition, int]


class Pausable(Protocol):
    """What of a consumer is needed here."""

    def assignment(self) -> frozenset[TopicPartition]: ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...


class HeldRecords:
    """Batches that wait, those of a partition oldest first; with each the positions behind it."""

    def __init__(self) -> None:
        self._batches: deque[tuple[RawRecords, Positions]] = deque()
        self._patience: dict[str, Patience] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def remaining(self) -> float:
        """Seconds until a batch is worth another try."""
        return min((self._of(raw.topic).remaining for raw, _ in self._batches), default=0.0)

    def decode(
        self, raw: RawRecords, positions: Mapping[TopicPartition, int], decode: Callable[[RawRecords], T]
    ) -> tuple[T, Positions] | None:
        """What can be decoded of n records that came, and the positions behind it; None: nothing, just now.

        Of each partition the first record that can't be decoded yet waits here, and all that come behind it.
        """
        came, behind = self._behind(raw)
        if behind is not None:
            self._batches.append((behind, _of_these(positions, behind)))
        if came is None:
            return None
        mine = dict(positions) if behind is None else _of_these(positions, came)
        return self._through(came, mine, decode, again=False)

    def again(self, decode: Callable[[RawRecords], T]) -> tuple[T, Positions] | None:
        """The first batch that can be decoded by now, as far as it can; as `decode`."""
        waiting, self._batches = self._batches, deque()
        done = None
        while waiting:
            raw, positions = waiting.popleft()
            is_due = done is None and not self._of(raw.topic).remaining
            if is_due and not self.partitions() & _partitions(raw):
                done = self._through(raw, positions, decode, again=True)
            else:
                self._batches.append((raw, positions))
        for topic, patience in self._patience.items():
            if not any(raw.topic == topic for raw, _ in self._batches):
                patience.came()
        return done

    def _through(
        self, raw: RawRecords, positions: Positions, decode: Callable[[RawRecords], T], *, again: bool
    ) -> tuple[T, Positions] | None:
        late: list[tuple[RawRecords, Positions]] = []
        rest: RawRecords | None = raw
        found = None
        while rest is not None and found is None:
            try:
                found = decode(rest), positions
            except NotReady as error:
                rest, waits = divide(rest, _waiting(rest, error.rows))
                assert waits is not None
                late.append((waits, _of_these(positions, waits)))
                self._lacks(waits, error, again)
                ready = set() if rest is None else _partitions(rest)
                positions = {tp: at for tp, at in positions.items() if tp in ready} | _starts(waits, ready)
        # What was cut off later comes earlier in its partition.
        self._batches.extend(reversed(late))
        return found

    def _behind(self, raw: RawRecords) -> tuple[RawRecords | None, RawRecords | None]:
        """The records of partitions of which nothing waits, and the others."""
        waiting = [partition for topic, partition in self.partitions() if topic == raw.topic]
        return divide(raw, np.isin(raw.partition, waiting)) if waiting else (raw, None)

    def _lacks(self, raw: RawRecords, error: NotReady, again: bool) -> None:
        patience = self._of(raw.topic)
        # A further partition does not put the next try off.
        if again or not patience.is_waiting:
            patience.lacks(error, np.unique(raw.partition).tolist())

    @contextmanager
    def pausing(self, consumer: Pausable, but: Collection[TopicPartition] = ()) -> Iterator[None]:
        """What is done within changes what waits: partitions are paused while they wait, and no longer.

        Args:
            but: these stay paused, for another reason.
        """
        before = self.partitions()
        try:
            yield
        finally:
            after = self.partitions()
            if waits := (after - before) & consumer.assignment():
                consumer.pause(waits)
            if goes_on := (before - after).difference(but) & consumer.assignment():
                consumer.resume(goes_on)

    def partitions(self) -> set[TopicPartition]:
        """Those of which something waits."""
        return {tp for raw, _ in self._batches for tp in _partitions(raw)}

    def starts(self) -> Positions:
        """The first offset that waits in each partition."""
        found: Positions = {}
        for raw, _ in reversed(self._batches):
            found |= _starts(raw, _partitions(raw))
        return found

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """These are read from elsewhere, or by others."""
        gone = list(partitions)
        kept = deque[tuple[RawRecords, Positions]]()
        for raw, positions in self._batches:
            rest = {tp: at for tp, at in positions.items() if tp not in gone}
            kept.extend((cut, rest) for cut in without([raw], gone))
        self._batches = kept

    def release(self) -> None:
        """Gives all of them back to the broker's client."""
        while self._batches:
            self._batches.popleft()[0].release()

    def _of(self, topic: str) -> Patience:
        return self._patience.setdefault(topic, Patience(topic))


def _waiting(raw: RawRecords, rows: Sequence[int] | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which records wait, where those of `rows` (None: all) can't be decoded: they, and all behind them."""
    if rows is None:
        return np.ones(len(raw), bool)
    late = np.asarray(rows, np.int64)
    first = np.full(int(raw.partition.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, raw.partition[late], raw.offset[late])
    waits: np.ndarray[tuple[int], np.dtype[np.bool_]] = raw.offset >= first[raw.partition]
    return waits


def _partitions(raw: RawRecords) -> set[TopicPartition]:
    return {(raw.topic, partition) for partition in np.unique(raw.partition).tolist()}


def _of_these(positions: Mapping[TopicPartition, int], raw: RawRecords) -> Positions:
    own = _partitions(raw)
    return {tp: at for tp, at in positions.items() if tp in own}


def _starts(raw: RawRecords, of: set[TopicPartition]) -> Positions:
    """The first offset of each of these partitions, as far as they have one."""
    partitions, first = np.unique(raw.partition, return_index=True)
    offsets = zip(partitions.tolist(), raw.offset[first].tolist(), strict=True)
    return {(raw.topic, partition): at for partition, at in offsets if (raw.topic, partition) in of}
