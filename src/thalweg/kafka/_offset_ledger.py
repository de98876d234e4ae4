"""What a consumer has handed out, what of it is known to be handled, and what the broker knows of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TopicPartition = tuple[str, int]
Offsets = dict[TopicPartition, int]


class OffsetLedger:
    """Offsets are those of the *next* record, as Kafka commits them.

    A record counts as handled when its reader asks for the next one: not before, so that a crash in between brings it
    again instead of losing it.
    """

    def __init__(self) -> None:
        self._given: Offsets = {}
        self._handled: Offsets = {}
        self._committed: Offsets = {}

    def give(self, positions: Mapping[TopicPartition, int]) -> None:
        """Records up to these positions are with the reader."""
        self._given.update(positions)

    def prove(self) -> None:
        """The reader came back: it is done with all that it was given."""
        if self._given:
            self._handled.update(self._given)

    def at_end(self, ends: Mapping[TopicPartition, int]) -> None:
        """All that is there was handled up to these ends: what lies between (aborted records, markers) counts too."""
        for tp, end in ends.items():
            if tp in self._given and self._given[tp] < end:
                self._given[tp] = self._handled[tp] = end

    def moved(self, positions: Mapping[TopicPartition, int]) -> None:
        """The reader goes on from elsewhere; that is what is to be committed, once it has come on from there."""
        for tp in positions:
            self._given.pop(tp, None)
            self._handled.pop(tp, None)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Others read these now."""
        for tp in partitions:
            for known in (self._given, self._handled, self._committed):
                known.pop(tp, None)

    @property
    def given(self) -> Offsets:
        return dict(self._given)

    def dirty(self, only: Iterable[TopicPartition] | None = None) -> Offsets:
        """Handled offsets that the broker does not know."""
        wanted = None if only is None else frozenset(only)
        return {
            tp: offset
            for tp, offset in self._handled.items()
            if self._committed.get(tp) != offset and (wanted is None or tp in wanted)
        }

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker has these."""
        self._committed.update({tp: offset for tp, offset in offsets.items() if tp in self._given})
