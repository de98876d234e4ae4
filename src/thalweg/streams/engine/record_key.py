"""Topics whose records are in partitions by a column: their rows need not move to be with their key's state."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.batch import PARTITION
from thalweg.streams.engine.dead_letters import RowError
from thalweg.streams.state.key_groups import key_groups

SAMPLE = 1_000
"""So many rows at the beginning of a run are the sample by which a wrong partitioner is found."""
_ENOUGH, _TOO_MANY = 20, 0.25


def _murmur2(keys: pl.Series, partitions: int) -> pl.Series:
    return key_groups(keys.to_frame(), [keys.name], partitions)


def _crc32(keys: pl.Series, partitions: int) -> pl.Series:
    distinct = keys.unique()
    places = [None if key is None else zlib.crc32(key.encode()) % partitions for key in distinct]
    return keys.replace_strict(distinct, pl.Series(places, dtype=pl.UInt16), default=None)


PARTITIONERS: dict[str, Callable[[pl.Series, int], pl.Series]] = {"murmur2": _murmur2, "crc32": _crc32}
"""Kafka's Java client (and our producer), and librdkafka's `consistent` and `consistent_random`: of a key's UTF-8."""


def checked_partitioner(column: str | None, partitioner: str | None) -> str:
    """The partitioner of a stream with that record key.

    Raises:
        ConfigurationError: there is none of that name, or no record key.
    """
    if partitioner is not None and partitioner not in PARTITIONERS:
        raise ConfigurationError(f"partitioner is {partitioner!r}; use one of {', '.join(PARTITIONERS)}")
    if partitioner is not None and column is None:
        raise ConfigurationError("partitioner says how the record_key chose partitions: give record_key too")
    return partitioner or "murmur2"


class RecordKey:
    """Says which rows are not in the partition that their key belongs to.

    Args:
        topic: for messages.
        column: whose text is the record key.
        partitioner: one of `PARTITIONERS`.
        partitions: how many the topic has.
    """

    def __init__(self, topic: str, column: str, partitioner: str, partitions: int) -> None:
        self.topic, self.column, self.partitioner, self.partitions = topic, column, partitioner, partitions
        self._seen = self._wrong = 0

    def misplaced(self, frame: pl.DataFrame) -> pl.Series:
        """Which rows are elsewhere; those without a key are, as they may be anywhere.

        Raises:
            ConfigurationError: so many of the first rows that the topic is not partitioned as it was said to be.
        """
        keys = frame[self.column].cast(pl.String) if self.column in frame.columns else pl.Series([None] * frame.height)
        places = PARTITIONERS[self.partitioner](keys.cast(pl.String).alias("key"), self.partitions)
        wrong = (places != frame[PARTITION]).fill_null(True) | keys.is_null()
        if self._seen < SAMPLE:
            self._seen += frame.height
            self._wrong += int((wrong & keys.is_not_null()).sum())
            if self._seen >= _ENOUGH and self._wrong > self._seen * _TOO_MANY:
                raise ConfigurationError(
                    f"topic {self.topic!r} is not partitioned by {self.column!r} with {self.partitioner}: of its first "
                    f"{self._seen} rows {self._wrong} are in other partitions. Leave record_key out, or give the "
                    f"partitioner that its producers use ({', '.join(PARTITIONERS)})"
                )
        return wrong

    def errors(self, rows: pl.DataFrame) -> list[RowError]:
        """What is said of misplaced rows."""
        keys = rows[self.column].to_list() if self.column in rows.columns else [None] * rows.height
        return [
            (number, "WrongPartition", self._why(key, partition), {})
            for number, (key, partition) in enumerate(zip(keys, rows[PARTITION], strict=True))
        ]

    def _why(self, key: object, partition: int) -> str:
        if key is None:
            return f"without {self.column!r} it belongs to no partition"
        return f"{self.column!r} {key!r} is in partition {partition}, which is not its own by {self.partitioner}"
