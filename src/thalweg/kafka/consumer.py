"""The interface of a consumer of records in wire form, and the choice between the two that there are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from thalweg.kafka._librdkafka import LibraryUnusable, library_path
from thalweg.records import RawRecords

if TYPE_CHECKING:
    import pyarrow as pa

    from thalweg.kafka._produce_api import GroupMembership
    from thalweg.kafka._rebalancing import RebalanceListener

logger = logging.getLogger("thalweg.kafka")

TopicPartition = tuple[str, int]

BEGINNING = -2
"""As a position: the oldest record there is."""
END = -1
"""As a position: only what comes from now on."""
COMMITTED = -1000
"""As a position: the group's committed offset, else by `auto.offset.reset`."""


class RecordConsumer(Protocol):
    """A member of a consumer group. One thread polls; `wake` and the requests may come from any."""

    def poll(self, max_records: int = 10_000, timeout_ms: int = 100) -> RawRecords | None:
        """Whatever has arrived, of one topic, at once; waits up to `timeout_ms` where nothing has.

        Raises:
            OffsetOutOfRange, FencedError, RestartRequired, ConnectorError: see `consumer_errors`.
        """

    def poll_arrow(self, max_records: int = 10_000, timeout_ms: int = 100) -> pa.RecordBatch | None:
        """`poll`, copied into Arrow columns (see `arrow.to_arrow`)."""

    def offered(self) -> frozenset[TopicPartition] | None:
        """What the group gave this member and `start` has not been called for (with `hold_assignment`)."""

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begins to read exactly these partitions from these positions (`BEGINNING`, `END`, `COMMITTED` too)."""

    @property
    def revoked(self) -> bool:
        """With `hold_assignment`: the group wants partitions back and waits for `close`."""

    def assignment(self) -> frozenset[TopicPartition]: ...

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset of each partition, after what `poll` has handed out."""

    def end_offsets(self) -> dict[TopicPartition, int]:
        """The end of each partition as last heard from the broker, without asking it."""

    def caught_up(self) -> frozenset[TopicPartition]:
        """Partitions whose position the broker has said is the end."""

    def seek(self, positions: Mapping[TopicPartition, int]) -> None: ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None: ...

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...

    def topics(self, timeout_ms: int = 10_000) -> dict[str, int]:
        """Every topic of the cluster with its partition count."""

    def watermarks(self, tp: TopicPartition, timeout_ms: int = 10_000) -> tuple[int, int]:
        """Asks the broker for the first and the next offset of a partition."""

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = 10_000
    ) -> dict[TopicPartition, tuple[int, str]]:
        """Committed offset and metadata of those partitions that have any."""

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commits offsets with metadata; returns when the broker has them."""

    def group_metadata(self) -> GroupMembership:
        """The membership at this moment, for transactions: `address` of librdkafka's, `close()` frees it."""

    def wake(self) -> None:
        """Makes a waiting `poll` return."""

    def close(self) -> None: ...


class GroupConsumer(RecordConsumer, Protocol):
    """A `RecordConsumer` whose listener hears of every rebalance, and what else `KafkaConsumer` needs of one."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Joins the group for these topics, instead of those before; a name that starts with ^ is a pattern."""

    def unsubscribe(self) -> None:
        """Leaves the group; later polls tell the listener of it."""

    def reached_ends(self) -> dict[TopicPartition, int]:
        """The ends of the partitions that are caught up: behind them lie only transaction markers, if anything."""

    def offsets_at(self, times: Mapping[TopicPartition, int], timeout_ms: int = 10_000) -> dict[TopicPartition, int]:
        """For each partition the offset of its first record at or after a time (ms UTC); its end where none is."""

    def commit_async(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Begins to commit offsets; the listener hears of the result inside a later poll."""


def open_consumer(
    config: Mapping[str, object], topics: Sequence[str] = (), *, hold_assignment: bool = False
) -> RecordConsumer:
    """The columnar consumer; the plain one where librdkafka can't be used, or THALWEG_PLAIN_CONSUMER=1 asks for it."""
    if not _can_be_columnar():
        from thalweg.kafka.plain import PlainConsumer

        return PlainConsumer(config, topics, hold_assignment=hold_assignment)
    from thalweg.kafka.columnar import ColumnarConsumer

    return ColumnarConsumer(config, topics, hold_assignment=hold_assignment)


def open_group_consumer(
    config: Mapping[str, object], topics: Sequence[str], listener: RebalanceListener
) -> GroupConsumer:
    """`open_consumer`, with a listener."""
    if not _can_be_columnar():
        from thalweg.kafka.plain import PlainConsumer

        return PlainConsumer(config, topics, listener=listener)
    from thalweg.kafka.columnar import ColumnarConsumer

    return ColumnarConsumer(config, topics, listener=listener)


def _can_be_columnar() -> bool:
    if os.environ.get("THALWEG_PLAIN_CONSUMER", "") not in ("", "0"):
        return False
    try:
        library_path()
    except LibraryUnusable as error:
        logger.warning("%s. Until then the slower plain consumer serves", error)
        return False
    return True
