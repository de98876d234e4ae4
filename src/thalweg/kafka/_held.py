"""Records whose decoder is not ready: kept in their order, while their partitions are paused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from thalweg.errors import NotReady
from thalweg.formats.patience import Patience
from thalweg.kafka._records import without
from thalweg.records import RawRecords

TopicPartition = tuple[str, int]
Positions = dict[TopicPartition, int]


class HeldRecords:
    """Batches that wait, oldest first; with each the positions behind it."""

    def __init__(self) -> None:
        self._batches: deque[tuple[RawRecords, Positions]] = deque()
        self._patience: dict[str, Patience] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def remaining(self) -> float:
        """Seconds until the first batch is worth another try."""
        return self._of(self._batches[0][0].topic).remaining if self._batches else 0.0

    def keep(self, raw: RawRecords, positions: Mapping[TopicPartition, int]) -> None:
        """One more, behind the others."""
        self._batches.append((raw, dict(positions)))

    def take(self) -> tuple[RawRecords, Positions]:
        """The first of them."""
        return self._batches.popleft()

    def put_back(self, raw: RawRecords, positions: Positions, error: NotReady) -> None:
        """It is first again: it could not be decoded yet."""
        self._batches.appendleft((raw, positions))
        self._of(raw.topic).lacks(error)

    def came(self, topic: str) -> None:
        """Records of this topic could be decoded."""
        self._of(topic).came()

    def starts(self) -> Positions:
        """The first offset that waits in each partition."""
        found: Positions = {}
        for raw, _ in reversed(self._batches):
            partitions, first = np.unique(raw.partition, return_index=True)
            offsets = raw.offset[first].tolist()
            found |= {(raw.topic, p): at for p, at in zip(partitions.tolist(), offsets, strict=True)}
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
