"""What the decoders of the registry's formats have in common: a reader for each topic, fixed at its first batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from thalweg.formats.avro.decoder import Cast
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.records import Decoded, RawRecords

F = TypeVar("F", bound=RegistryFormat)
Within = Callable[[], float | None]


class TopicReader(Protocol):
    """Reads the records of one topic."""

    def decode(self, raw: RawRecords) -> Decoded: ...


class ByTopic(Generic[F]):
    """A decoder: records of several schemas into the columns of one.

    A record whose schema the registry does not know, or that can't be resolved, is reported as any unreadable one is.
    Where the registry does not answer for a schema that was not read before, `decode` raises and nothing is lost.
    """

    def __init__(
        self, format: F, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None
    ) -> None:
        self.answer_within: float | None = None
        """Seconds for which `decode` waits for the registry; None: as long as its client's settings allow."""
        self._format = format
        self._schema = schema
        self._columns = None if columns is None else frozenset(columns)
        self._readers: dict[str, TopicReader] = {}

    def decode(self, raw: RawRecords) -> Decoded:
        """Reads every record; what can't be read is in `errors`, by row.

        Raises:
            RegistryUnavailableError: a schema is needed that was not read before; it names the records.
        """
        topic = self._format.topic or raw.topic
        if topic not in self._readers:
            self._readers[topic] = self._open(self._format.for_topic(topic), lambda: self.answer_within)
        return self._readers[topic].decode(raw)

    def _open(self, format: F, within: Within) -> TopicReader:
        """The reader of the topic that the format is for."""
        raise NotImplementedError


class CastByTopic(ByTopic[F]):
    """The columns are those of the reader's schema; where the stream has a schema, they are cast to its types."""

    def __init__(
        self, format: F, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None
    ) -> None:
        super().__init__(format, schema, columns)
        self._cast = None if schema is None else Cast(schema, columns)
        if self._cast is not None:
            self._columns = self._cast.columns

    def decode(self, raw: RawRecords) -> Decoded:
        """See `ByTopic`; a value that does not fit the wanted type fails its record."""
        decoded = super().decode(raw)
        return decoded if self._cast is None else self._cast.apply(decoded)
