"""The part of `KafkaConsumer` that says where reading is, and moves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from thalweg.errors import ConfigurationError
from thalweg.kafka._consumer_buffer import Buffer
from thalweg.kafka._group_events import GroupEvents
from thalweg.kafka._offset_ledger import OffsetLedger
from thalweg.kafka._produce_api import GroupMembership
from thalweg.kafka.consumer import GroupConsumer, TopicPartition


class Positions:
    """Offsets are those of the next record to come."""

    _consumer: GroupConsumer
    _buffer: Buffer
    _ledger: OffsetLedger
    _events: GroupEvents

    def assignment(self) -> frozenset[TopicPartition]:
        """The (topic, partition) being read."""
        return self._consumer.assignment()

    def positions(self) -> dict[TopicPartition, int]:
        """The offset after the last record given, of each partition of which one came (or that has a known start)."""
        return self._started_from() | self._ledger.given

    def end_offsets(self, *, ask: bool = False) -> dict[TopicPartition, int]:
        """The end of each partition: as last heard, or (`ask`) by asking the brokers."""
        if ask:
            return {tp: self._consumer.watermarks(tp)[1] for tp in sorted(self.assignment())}
        return self._consumer.end_offsets()

    def lag(self, *, ask: bool = False) -> dict[TopicPartition, int]:
        """Records of each partition that were not given yet. Without `ask`, partitions not heard of are left out."""
        ends, positions = self.end_offsets(ask=ask), self.positions()
        if not self._buffer:  # then all before an end that was reached is read, if only markers
            waiting = self._buffer.held.partitions()
            reached = {tp: end for tp, end in self._consumer.reached_ends().items() if tp not in waiting}
            positions |= reached
            ends = ends if ask else ends | reached
        return {tp: max(0, ends[tp] - positions[tp]) for tp in self.assignment() if tp in ends and tp in positions}

    def read_to(self, partition: TopicPartition, offset: int) -> bool:
        """Whether everything before an offset was given."""
        if self._buffer or partition in self._buffer.held.partitions():
            return False
        return max(self.positions().get(partition, 0), self._consumer.reached_ends().get(partition, 0)) >= offset

    def committed(self, partitions: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, int]:
        """The group's committed offsets of these partitions, or of those being read; none where there is none.

        Raises:
            ConnectorError: the group's coordinator does not answer.
        """
        return {tp: offset for tp, (offset, _) in self.committed_notes(partitions).items()}

    def committed_notes(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, tuple[int, str]]:
        """`committed`, with the note that was committed beside each offset."""
        wanted = self.assignment() if partitions is None else frozenset(partitions)
        return self._consumer.committed(wanted) if wanted else {}

    def offsets_at(self, partitions: Iterable[TopicPartition], time: int | datetime) -> dict[TopicPartition, int]:
        """The offset of each partition's first record at or after a time (ms UTC, or an aware datetime)."""
        at = _milliseconds(time)
        return self._consumer.offsets_at(dict.fromkeys(partitions, at))

    # ---------------------------------------------------------------- moving

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Goes on from these offsets. What was fetched of the partitions and not given is dropped.

        Raises:
            ConfigurationError: a partition that is not being read.
        """
        if self._events.assigning is not None:
            self._events.assigning.update(positions)
            return
        self._check_read(positions)
        self._buffer.drop(positions)
        self._ledger.moved(positions)
        self._consumer.seek(positions)

    def seek_to_time(self, time: int | datetime, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Goes on with each partition's first record at or after a time (ms UTC, or an aware datetime)."""
        self.seek(self.offsets_at(self._some(partitions), time))

    def seek_to_beginning(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        self.seek({tp: self._consumer.watermarks(tp)[0] for tp in self._some(partitions)})

    def seek_to_end(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        self.seek({tp: self._consumer.watermarks(tp)[1] for tp in self._some(partitions)})

    def seek_to_committed(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Goes back to the last commit, as after an aborted transaction; without a commit, to the beginning."""
        wanted = self._some(partitions)
        committed = self.committed(wanted)
        first = {tp: self._consumer.watermarks(tp)[0] for tp in wanted if tp not in committed}
        self.seek(committed | first)

    def pause(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """Fetches no more of these (all) until `resume`; what is already here still comes."""
        if self._events.assigning is not None and partitions is not None:
            self._events.pausing.update(partitions)
            return
        wanted = self._some(partitions)
        self._events.paused.update(wanted)
        self._consumer.pause(wanted)

    def resume(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        wanted = self._some(partitions)
        self._events.paused.difference_update(wanted)
        waiting = self._buffer.held.partitions()  # these go on when what waits is through
        if goes_on := [tp for tp in wanted if tp not in waiting]:
            self._consumer.resume(goes_on)

    # ---------------------------------------------------------------- for others

    def topics(self) -> dict[str, int]:
        """Every topic of the cluster with its partition count."""
        return self._consumer.topics()

    def group_metadata(self) -> GroupMembership:
        """The membership at this moment, for `KafkaProducer.send_offsets`; `close()` frees it."""
        return self._consumer.group_metadata()

    def _some(self, partitions: Iterable[TopicPartition] | None) -> list[TopicPartition]:
        return sorted(self.assignment() if partitions is None else partitions)

    def _started_from(self) -> dict[TopicPartition, int]:
        """Positions of partitions from which nothing was given; where rows wait, those are not counted."""
        waiting = self._buffer.end or {}
        reached = self._consumer.positions() | self._buffer.held.starts()
        return {tp: at for tp, at in reached.items() if tp not in waiting}

    def _check_read(self, positions: Iterable[TopicPartition]) -> None:
        strange = set(positions) - self.assignment()
        if strange:
            raise ConfigurationError(f"not being read, so they can't be moved: {sorted(strange)}; see assignment()")


def _milliseconds(time: int | datetime) -> int:
    if isinstance(time, int):
        return time
    if time.tzinfo is None:
        raise ConfigurationError(f"{time!r} has no time zone; give an aware datetime or ms UTC")
    return int(time.timestamp() * 1000)
