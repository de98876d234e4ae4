"""The border between the engine and a broker: `Source`, `Committer` and `Broker`.

The embedded log and Kafka implement these; the engine knows nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.records import Decoder, Encoder

TopicPartition = tuple[str, int]


class Guarantee(StrEnum):
    """What a crash may do to the output."""

    AT_LEAST_ONCE = "at-least-once"
    EXACTLY_ONCE = "exactly-once"


@dataclass(slots=True)
class SourceBatch:
    """What one poll gave: decoded rows, what could not be decoded, and how far the source has come.

    `frame` has the user's columns, `__partition`, `__offset`, `__ingested`, and, when the source was opened with
    `broker_timestamps`, the broker's record time as `__ts`. `dead` has `DEAD_LETTER_SCHEMA`.
    """

    frame: pl.DataFrame
    dead: pl.DataFrame | None
    positions: Mapping[int, int]
    """For every partition that moved: the next offset to read."""
    received: int
    """Records taken from the broker, readable or not."""


class Source(Protocol):
    """Reads one topic. One thread at a time; `wake` may be called from any."""

    topic: str

    def open(self) -> Sequence[int]:
        """Connects and returns the partitions that this worker owns; blocks until they are known.

        Raises:
            ConnectorError: unreachable broker, unknown topic … in words that say what to do.
        """

    def seek(self, positions: Mapping[int, int]) -> None:
        """Where to go on, per partition. Partitions not named start by the source's start setting."""

    def poll(self, max_rows: int, timeout_ms: int) -> SourceBatch | None:
        """Whatever has arrived, at once; waits up to `timeout_ms` where nothing has. None: nothing came.

        Raises:
            RestartRequired: the set of owned partitions changed.
        """

    def caught_up(self) -> frozenset[int]:
        """Partitions whose position has reached the end by the broker's own evidence (not by silence)."""

    def lag(self) -> Mapping[int, int]:
        """Records between position and end, per partition, as last known."""

    def wake(self) -> None:
        """Makes a waiting `poll` return."""

    def close(self) -> None: ...


@dataclass(slots=True)
class SinkWrite:
    """Rows for one topic. `frame` holds user columns only; what else a record has comes beside it."""

    topic: str
    frame: pl.DataFrame
    encoder: Encoder
    key_column: str | None = None
    """Its text (UTF-8; binary as is) becomes the record key, which chooses the partition (murmur2, as in Java)."""
    timestamps: pl.Series | None = None
    """Int64, ms UTC; none: the broker's clock."""
    headers: Sequence[Mapping[str, bytes]] | None = None
    """One mapping per row (dead letters have them); None for the hot path."""
    partitions: pl.Series | None = None
    """Int32: the partition of each row, where the key does not choose it."""
    gone: pl.Series | None = None
    """Boolean: rows that become a record with their key and without a value, which deletes the key."""


@dataclass(slots=True)
class PartitionEpoch:
    """What the commit says of one source partition, also where its offset did not move."""

    epoch: int
    position: int
    max_timestamp: int
    """Largest event time seen, from which the watermark goes on after a restart."""


@dataclass(slots=True)
class StateRecord:
    """One operator's state change, for one state partition (a contiguous range of key groups), in wire form."""

    state_partition: int
    operator_id: str
    payload: bytes
    full: bool = False


@dataclass(slots=True)
class Commit:
    """One commit epoch: all of it takes effect, or nothing does (exactly-once); at-least-once: never state or
    offsets before the outputs that belong to them."""

    epochs: Mapping[TopicPartition, PartitionEpoch]
    writes: Sequence[SinkWrite] = ()
    states: Sequence[StateRecord] = ()
    number: int = 0
    """Counts this writer's commits, for logs."""
    snapshot: bool = False
    """A snapshot of the state as of this epoch will be written beside the commits (see `SnapshotCommitter`)."""


@dataclass(slots=True)
class Recovered:
    """What the last commit left. `states` in the order in which they were committed, starting at a full one."""

    epochs: Mapping[TopicPartition, PartitionEpoch] = field(default_factory=dict)
    states: Sequence[StateRecord] = ()


class Committer(Protocol):
    """Outputs, offsets and state of one job (worker slot). `commit` is called from one background thread."""

    def recover(self, partitions: Iterable[TopicPartition]) -> Recovered:
        """What is committed for these partitions; fences off any earlier instance of the same slot first.

        Raises:
            StateError: an epoch that the offsets name is missing or unreadable. Never an empty state instead.
        """

    def send(self, write: SinkWrite) -> None:
        """At-least-once only: on its way at once, from the engine's thread; the next `commit` waits for it."""

    def commit(self, commit: Commit) -> None:
        """Makes the epoch durable; returns when it is.

        Raises:
            RestartRequired: the epoch was aborted; recover and go on.
            FencedError: another instance took over.
        """

    def close(self) -> None: ...


@runtime_checkable
class OverlappingCommitter(Protocol):
    """A committer that can prepare an epoch while the one before is being finished.

    `prepare` is called in the order of the epochs, and so is `finish`: each when the one before is durable. They are
    called from several threads, each by one at a time. Where an epoch fails, those prepared after it are abandoned.
    """

    most_under_way: int
    """How many epochs may be on their way at a time; 1: no overlap."""

    def prepare(self, commit: Commit) -> Any:
        """Sends the epoch's records; nothing of it counts yet. Returns what `finish` takes.

        Raises:
            RestartRequired, FencedError: as `Committer.commit`.
        """

    def finish(self, prepared: Any) -> None:
        """Makes the epoch durable; returns when it is.

        Raises:
            RestartRequired, FencedError: as `Committer.commit`.
        """

    def abandon(self, prepared: Any) -> None:
        """Drops a prepared epoch, the one before which has failed."""


@runtime_checkable
class SnapshotCommitter(OverlappingCommitter, Protocol):
    """A committer that writes checkpoints beside the commits: all state as of an epoch, which later ones build on."""

    def taken_snapshot(self, prepared: Any) -> Any:
        """What stands for the snapshot of the state as of a prepared epoch, which was announced in its `Commit`."""

    def write_snapshot(self, taken: Any, states: Sequence[StateRecord], until: float) -> None:
        """Writes it, on any thread, once its epoch is durable; returns when it is durable itself.

        Args:
            states: of all operators, in full.
            until: when nobody waits for it any more, by the monotonic clock.

        Raises:
            ConnectorError: it can't be written, or not by then; no commit is concerned.
        """

    def adopt_snapshot(self, taken: Any) -> None:
        """From the next `prepare` on epochs build on it."""


@dataclass(slots=True)
class JobSettings:
    """What a broker needs to know of a job to open its committer and sources."""

    name: str
    slot: int = 0
    """Worker slot: transactional ids and group instance ids are per slot, so that a restart takes over at once."""
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    start: str = "earliest"
    """Where a partition without a committed offset starts: "earliest" or "latest"."""
    workers: int = 1
    """How many workers the job is started with here; more may run elsewhere."""
    state_partitions: int = 1
    owned_states: frozenset[int] | None = None
    """The state partitions that this worker keeps; None: all."""
    exchange: str | None = None
    """The topic through which rows move between workers, where there are several."""
    checkpoint_storage: str | None = None
    """Where state is kept, as a URL; None: with the broker."""
    clock: Callable[[], int] | None = None


@runtime_checkable
class Broker(Protocol):
    """A place that holds topics: the embedded log or a Kafka cluster."""

    def source(self, topic: str, decoder: Decoder, job: JobSettings, *, broker_timestamps: bool = False) -> Source: ...

    def committer(self, job: JobSettings, sources: Sequence[Source]) -> Committer:
        """Called after the sources are open."""

    def ensure_topic(self, topic: str, partitions: int | None = None) -> int:
        """Creates the topic where it is missing; returns its partition count."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has.

        Raises:
            ConnectorError: unknown topic (the message lists close names), unreachable broker.
        """

    def close(self) -> None: ...


@runtime_checkable
class ScalableBroker(Protocol):
    """A broker that deals partitions out to several workers, and so has an exchange."""

    def has_topic(self, topic: str) -> bool:
        """Whether it exists."""

    def ensure_exchange(self, topic: str, partitions: int) -> int:
        """Creates an exchange topic where it is missing; returns its partition count."""


@runtime_checkable
class GroupSource(Protocol):
    """A source that is dealt its partitions by a group, together with other workers."""

    def attend(self, timeout_ms: int) -> None:
        """Between `open` and `seek`: answers the group, so that no other worker has to wait for this one.

        Raises:
            RestartRequired: the group deals its partitions out anew: open it again.
        """

    def ends(self) -> Mapping[int, int]:
        """Asks where every partition ends that this worker owns."""

    def first_positions(self) -> Mapping[int, int]:
        """After `seek`: the position of every partition that this worker owns, before anything is read."""


_SCHEMES = {"sqlite": "thalweg.connectors.sqlite_log:SqliteBroker", "kafka": "thalweg.connectors.kafka:KafkaBroker"}


def open_broker(url: str, **settings: object) -> Broker:
    """Opens the broker that a URL names, `sqlite:///file.db` or `kafka://host:9092[,host:port…]`.

    Other packages add schemes through the entry point group `thalweg.brokers`.

    Raises:
        ConfigurationError: no such scheme.
    """
    scheme = url.split("://", 1)[0]
    target = _SCHEMES.get(scheme) or next(
        (point.value for point in entry_points(group="thalweg.brokers") if point.name == scheme), None
    )
    if target is None or "://" not in url:
        raise ConfigurationError(f"broker {url!r}: use one of {', '.join(sorted(f'{s}://' for s in _SCHEMES))}")
    module, _, name = target.partition(":")
    broker: Broker = getattr(import_module(module), name)(url, **settings)
    return broker
