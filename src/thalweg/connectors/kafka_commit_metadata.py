"""What a committed offset says beside the offset: Kafka keeps a string (4 KB by default) with each.

Compact JSON, so that `kafka-consumer-groups` output stays readable::

    {"f":1,"e":42,"t":1700000000000,"w":["9f…"],"s":[[0,12,3456,0]]}

    f format   e epoch of the source partition   t largest event time seen, ms UTC (absent: none yet)
    w writers   s per state partition: [state partition, epoch, offset to read from, index of the writer in w]
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from thalweg.connectors.kafka_changelog import EpochName, Tip
from thalweg.errors import StateError
from thalweg.streams.batch import MIN_TIME

FORMAT = 1
MAX_BYTES = 4096
"""The broker's default `offset.metadata.max.bytes`."""


@dataclass(frozen=True, slots=True)
class CommitMetadata:
    """The metadata of one source partition's committed offset."""

    epoch: int
    max_timestamp: int = MIN_TIME
    tips: Mapping[int, Tip] = field(default_factory=dict)
    """Per state partition: its newest epoch as of this commit."""

    def encode(self) -> str:
        """The string for the broker.

        Raises:
            StateError: more state partitions than the string can name.
        """
        writers = sorted({tip.name.writer for tip in self.tips.values()})
        rows = [
            [partition, tip.name.epoch, tip.base_offset, writers.index(tip.name.writer)]
            for partition, tip in sorted(self.tips.items())
        ]
        fields: dict[str, object] = {"f": FORMAT, "e": self.epoch}
        if self.max_timestamp != MIN_TIME:
            fields["t"] = self.max_timestamp
        if rows:
            fields |= {"w": writers, "s": rows}
        text = json.dumps(fields, separators=(",", ":"))
        if len(text) > MAX_BYTES:
            raise StateError(
                f"the offset metadata for {len(rows)} state partitions takes {len(text)} bytes and Kafka keeps "
                f"{MAX_BYTES}; use fewer state partitions per worker"
            )
        return text

    @classmethod
    def decode(cls, text: str | None, where: str) -> CommitMetadata | None:
        """Reads what `encode` wrote; None for an offset that some other tool committed.

        Args:
            where: topic and partition, for the error.

        Raises:
            StateError: written in a format that this version does not read.
        """
        try:
            # Up to its own end: `confluent_kafka.Consumer.committed` was seen to append bytes from beyond it.
            fields, _ = json.JSONDecoder().raw_decode(text or "")
        except ValueError:
            return None
        if not isinstance(fields, dict) or not isinstance(fields.get("f"), int):
            return None
        if fields["f"] != FORMAT:
            raise StateError(
                f"the committed offset of {where} has metadata of format {fields['f']}, this version reads format "
                f"{FORMAT}; use the version that wrote it"
            )
        try:
            writers = fields.get("w", [])
            tips = {row[0]: Tip(EpochName(writers[row[3]], row[1]), row[2]) for row in fields.get("s", [])}
            return cls(fields["e"], fields.get("t", MIN_TIME), tips)
        except (LookupError, TypeError) as error:
            raise StateError(f"the metadata of the committed offset of {where} is damaged: {text!r}") from error
