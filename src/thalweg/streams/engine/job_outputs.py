"""What a running job does with what leaves its plan: topics, dead letters, late events."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from thalweg.records import DEAD_LETTER_SCHEMA, Encoder
from thalweg.streams.connector import Committer, Guarantee, SinkWrite
from thalweg.streams.engine.dead_letters import late_letters

DEAD_LETTER_SUFFIX = ".dlq"
_IN_RECORD = {"payload", "key"}


class JobOutputs:
    """Keeps the open epoch's output for its commit (exactly-once), or sends it at once (at-least-once).

    Args:
        committer: of the job.
        guarantee: which of the two.
        ensure_topic: makes a topic where it is missing; called once per topic, before the first write to it.
        raw_encoder: writes the payloads of dead letters as they are.
        fallback_topic: whose dead-letter topic gets letters of unknown origin.
        late_to_dead_letters: whether late events become dead letters.
    """

    def __init__(
        self,
        committer: Committer,
        guarantee: Guarantee,
        *,
        ensure_topic: Callable[[str], object],
        raw_encoder: Encoder,
        fallback_topic: str,
        late_to_dead_letters: bool = True,
    ) -> None:
        self._committer = committer
        self._at_once = guarantee is Guarantee.AT_LEAST_ONCE
        self._ensure_topic = ensure_topic
        self._raw_encoder = raw_encoder
        self._fallback_topic = fallback_topic
        self._late_to_dead_letters = late_to_dead_letters
        self._known_topics: set[str] = set()
        self._pending: list[SinkWrite] = []
        self.pending_rows = 0
        self.pending_bytes = 0
        self.written = 0
        """Rows sent out since the start, dead letters included."""
        self.dead_rows = 0
        self.late_rows = 0

    def write(self, write: SinkWrite) -> None:
        """Rows for a topic."""
        if not write.frame.height:
            return
        if write.topic not in self._known_topics:
            self._ensure_topic(write.topic)
            self._known_topics.add(write.topic)
        self.written += write.frame.height
        self._hand_over(write)

    def exchange(self, write: SinkWrite) -> None:
        """Records for the exchange: no output of the job, but part of its epochs all the same."""
        if write.frame.height:
            self._hand_over(write)

    def _hand_over(self, write: SinkWrite) -> None:
        if self._at_once:
            self._committer.send(write)
        else:
            self._pending.append(write)
            self.pending_rows += write.frame.height
            self.pending_bytes += int(write.frame.estimated_size())

    def dead(self, frame: pl.DataFrame) -> None:
        """Dead letters, each to the topic of where it came from."""
        self.dead_rows += frame.height
        for letters in frame.partition_by("topic", maintain_order=True):
            self.write(self._dead_write(letters))

    def _dead_write(self, letters: pl.DataFrame) -> SinkWrite:
        origin = letters.item(0, "topic")
        topic = (self._fallback_topic if origin == "unknown" else origin) + DEAD_LETTER_SUFFIX
        record = letters.select(value=pl.col("payload"), key=pl.col("key"))
        return SinkWrite(topic, record, self._raw_encoder, "key", headers=headers_of(letters))

    def late(self, operator_id: str, topics: tuple[str, ...], frame: pl.DataFrame) -> None:
        """Late rows: dead letters, unless the app wants them as a side output only."""
        self.late_rows += frame.height
        if self._late_to_dead_letters:
            self.dead_rows -= frame.height  # counted as late, not as dead
            self.dead(late_letters(frame, operator_id, topics))

    def captured(self, name: str, frame: pl.DataFrame) -> None:
        """Only test drivers watch streams."""
        raise AssertionError(f"{name}: a running job has no captured streams")

    def take(self) -> list[SinkWrite]:
        """The open epoch's output, neighbouring writes to one topic together."""
        writes, self._pending = self._pending, []
        self.pending_rows = self.pending_bytes = 0
        return together(writes)


def headers_of(letters: pl.DataFrame) -> list[dict[str, bytes]]:
    """What a dead letter says besides its payload: the columns of `DEAD_LETTER_SCHEMA` as text."""
    names = [name for name in DEAD_LETTER_SCHEMA if name not in _IN_RECORD]
    return [
        {name: str(value).encode() for name, value in row.items() if value is not None}
        for row in letters.select(names).iter_rows(named=True)
    ]


def together(writes: Sequence[SinkWrite]) -> list[SinkWrite]:
    """Joins writes of one sink, so that the broker gets few large ones; their order within a topic stays."""
    groups: dict[tuple[object, ...], list[SinkWrite]] = {}
    for write in writes:
        has = (write.timestamps is None, write.headers is None, write.partitions is None, write.gone is None)
        shape = (write.topic, id(write.encoder), write.key_column, *has)
        groups.setdefault((*shape, *write.frame.schema.items()), []).append(write)
    return [_joined(group) for group in groups.values()]


def _joined(writes: Sequence[SinkWrite]) -> SinkWrite:
    first = writes[0]
    if len(writes) == 1:
        return first
    stamps = [write.timestamps for write in writes if write.timestamps is not None]
    places = [write.partitions for write in writes if write.partitions is not None]
    gone = [write.gone for write in writes if write.gone is not None]
    return SinkWrite(
        first.topic,
        pl.concat([write.frame for write in writes]),
        first.encoder,
        first.key_column,
        pl.concat(stamps) if stamps else None,
        [header for write in writes for header in write.headers or ()] or None,
        pl.concat(places) if places else None,
        pl.concat(gone) if gone else None,
    )
