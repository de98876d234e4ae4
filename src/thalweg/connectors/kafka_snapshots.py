"""Checkpoints of a job on Kafka: all state as of an epoch, written beside the commits, which go on meanwhile.

They go where the epochs go: to the changelog topic, by a producer without transactions, or to the checkpoint store.
They count when a later epoch names them: no harm is done where a writer dies in the middle, or is fenced off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.connectors.kafka_changelog import Chunk, SnapshotPlace, Tip, cut_snapshot
from thalweg.connectors.kafka_epochs import EpochLog
from thalweg.errors import ConnectorError
from thalweg.kafka.producer import KafkaProducer
from thalweg.streams.connector import StateRecord

_AT_ONCE = 8
"""Chunks (of 900 KB) between two looks at the clock."""


@dataclass(slots=True)
class TakenSnapshot:
    """The epochs, one per state partition, of which a snapshot is to be written; then what was written."""

    places: Mapping[int, SnapshotPlace]


class SnapshotWriter:
    """Writes snapshots; any thread, several at a time.

    Args:
        epochs: where they go.
        make_producer: a producer without transactions.
    """

    def __init__(self, epochs: EpochLog, make_producer: Callable[[], KafkaProducer]) -> None:
        self._epochs = epochs
        self._make_producer = make_producer

    def taken(self, tips: Mapping[int, Tip], ends: Mapping[int, int] | None) -> TakenSnapshot:
        """What stands for the state as of these epochs.

        Args:
            ends: per state partition an offset before all that follows; None where epochs are their own place.
        """
        places = {p: tip.name.epoch if ends is None else ends[p] for p, tip in tips.items()}
        return TakenSnapshot({p: SnapshotPlace(tip.name, places[p]) for p, tip in tips.items()})

    def write(self, taken: TakenSnapshot, states: Sequence[StateRecord], until: float) -> None:
        """Writes it and waits until it is durable.

        Args:
            until: when nobody waits for it any more, by the monotonic clock.

        Raises:
            ConnectorError: it can't be written, or not by then. The commits are not concerned.
        """
        grouped: dict[int, list[StateRecord]] = {}
        for state in states:
            if state.state_partition in taken.places:  # a partition without any epoch has no state
                grouped.setdefault(state.state_partition, []).append(state)
        chunks = [chunk for p, records in grouped.items() for chunk in cut_snapshot(p, taken.places[p].name, records)]
        taken.places = {
            p: SnapshotPlace(taken.places[p].name, taken.places[p].place, frozenset(r.operator_id for r in records))
            for p, records in grouped.items()
        }
        self._send(chunks, taken, until)

    def _send(self, chunks: Sequence[Chunk], taken: TakenSnapshot, until: float) -> None:
        names = {p: place.name for p, place in taken.places.items()}
        producer = self._make_producer()
        try:
            # The store takes a partition's chunks as one object; the topic takes them as they come.
            step = _AT_ONCE if self._epochs.takes_parts else max(len(chunks), 1)
            for start in range(0, len(chunks), step):
                left = until - time.monotonic()
                if left <= 0:
                    raise ConnectorError(f"{start} of its {len(chunks)} records were written in time")
                self._epochs.append(producer, chunks[start : start + step], names, snapshot=True)
                producer.wait(producer.barrier(), left)
        finally:
            producer.kill()
