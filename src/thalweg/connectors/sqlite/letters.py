"""The dead letters of an embedded log, for `DeadLetterQueue`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.connectors.sqlite.codec import Records
from thalweg.connectors.sqlite.log import EmbeddedLog
from thalweg.connectors.sqlite.writes import by_key, raw_records
from thalweg.kafka.dead_letter.letters import DEAD_SUFFIX, STATE_SUFFIX
from thalweg.kafka.dead_letter.store import Change, Outgoing, no_letters


class EmbeddedLetters:
    """`LetterStore` over an embedded log. A change is one SQL transaction, which no other writer comes between.

    Args:
        log: an open log, which stays the caller's to close.
    """

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log

    def topics(self) -> list[str]:
        names = self._log.topics()["topic"].to_list()
        return [name.removesuffix(DEAD_SUFFIX) for name in names if name.endswith(DEAD_SUFFIX)]

    def letters(self, topic: str) -> pl.DataFrame:
        if topic + DEAD_SUFFIX not in self._log.topics()["topic"]:
            raise no_letters(topic, self.topics())
        return self._log.records(topic + DEAD_SUFFIX)

    def states(self, topic: str) -> dict[str, bytes | None]:
        if topic + STATE_SUFFIX not in self._log.topics()["topic"]:
            return {}
        records = self._log.records(topic + STATE_SUFFIX)
        return dict(zip([(key or b"").decode() for key in records["key"]], records["value"], strict=True))

    def change(self, topic: str, change: Change) -> None:
        self._log.ensure_topic(topic + STATE_SUFFIX, 1)
        self._log.set_retention(topic + STATE_SUFFIX, None)
        topics = self._log._topics
        with topics.database.write() as connection:
            # Nobody else writes now, so what is read here (by a connection of its own) is the newest.
            records = change(self.states(topic))
            prepared = [topics.prepare(topics.find(name), pieces) for name, pieces in self._pieces(records)]
            topics.append(connection, prepared, time.time_ns() // 1_000_000)

    def _pieces(self, records: Sequence[Outgoing]) -> Iterator[tuple[str, list[tuple[int, Records]]]]:
        """The records by topic, those of each topic by partition."""
        for name in dict.fromkeys(each.topic for each in records):
            own = [each for each in records if each.topic == name]
            made = raw_records(
                [each.value for each in own],
                [each.key for each in own],
                [each.timestamp for each in own],
                [each.headers for each in own],
            )
            keys = pl.Series([each.key for each in own], dtype=pl.Binary)
            yield name, list(by_key(self._log._topics.find(name), made, keys))

    def close(self) -> None:
        """Nothing: the log is the caller's."""
