"""Positions, watermarks and epochs of the source partitions: what a commit says of each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from thalweg.streams.connector import PartitionEpoch, TopicPartition


class Progress:
    """Epochs count per source partition, and only where something changed since its last one.

    Something changed for a partition where its position or its largest timestamp did, where the state partition of its
    number did, or where rows were put out (these belong to no partition: the first one carries them if no other does).
    A partition from which nothing was ever read has no position, and so no epoch; another carries its state.

    Args:
        partitions: those that this worker reads.
        committed: what the last commit says of them.
        carrier: the topic whose partitions carry the state partitions of their number; None: any topic's.
    """

    def __init__(
        self,
        partitions: Iterable[TopicPartition],
        committed: Mapping[TopicPartition, PartitionEpoch],
        *,
        carrier: str | None = None,
    ) -> None:
        self._carrier = carrier
        self.committed: dict[TopicPartition, PartitionEpoch] = dict(committed)
        self.partitions = sorted(partitions)
        self.positions = {tp: epoch.position for tp, epoch in committed.items()}

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Where reading begins in partitions of which nothing is committed: they can be committed as they are."""
        self.positions = {**positions, **self.positions}

    def moved(self, topic: str, positions: Mapping[int, int]) -> None:
        """Notes how far a processed batch has come."""
        for partition, position in positions.items():
            self.positions[topic, partition] = position

    def epochs(
        self,
        largest: Mapping[TopicPartition, int],
        state_partitions: Iterable[int],
        put_out: bool,
        told: Collection[TopicPartition] = (),
    ) -> dict[TopicPartition, PartitionEpoch]:
        """The next epoch of every partition for which something changed.

        Args:
            largest: the largest timestamp of each partition.
            state_partitions: those whose state changed.
            put_out: whether there is output in this epoch.
            told: partitions of which other workers were told something.
        """
        known = [tp for tp in self.partitions if tp in self.positions]
        touched = self._carriers(known, state_partitions) | set(told)
        changed = [tp for tp in known if tp in touched or self._differs(tp, largest)]
        if put_out and not changed:
            changed = known[:1]
        return {tp: self._next(tp, largest) for tp in changed}

    def confirm(self, epochs: Mapping[TopicPartition, PartitionEpoch]) -> None:
        """Notes that an epoch was handed over; it counts as done, as any failure restarts the job."""
        self.committed.update(epochs)

    def _carriers(self, known: Sequence[TopicPartition], state_partitions: Iterable[int]) -> set[TopicPartition]:
        """The source partitions that carry these state partitions: those of their number, else the first."""
        carriers: set[TopicPartition] = set()
        for number in state_partitions:
            numbered = [tp for tp in known if tp[1] == number and self._carrier in (None, tp[0])]
            carriers.update(numbered or known[:1])
        return carriers

    def _differs(self, tp: TopicPartition, largest: Mapping[TopicPartition, int]) -> bool:
        before = self.committed.get(tp)
        if before is None:
            return True
        return before.position != self.positions[tp] or before.max_timestamp != largest[tp]

    def _next(self, tp: TopicPartition, largest: Mapping[TopicPartition, int]) -> PartitionEpoch:
        before = self.committed.get(tp)
        return PartitionEpoch(before.epoch + 1 if before else 1, self.positions[tp], largest[tp])
