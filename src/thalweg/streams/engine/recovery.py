"""What an attempt starts from: the last commit, or a savepoint in its place."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from thalweg.errors import StateError
from thalweg.streams.connector import JobSettings, Recovered, TopicPartition
from thalweg.streams.engine.exchange.by_record import READER
from thalweg.streams.engine.state_codec import PlacedDelta, merge
from thalweg.streams.operator import StateDelta
from thalweg.streams.savepoints import Savepoint

logger = logging.getLogger(__name__)


class Recovery:
    """What was recovered, and what of it the first commit has to void.

    Args:
        committed: what the committer recovered.
        savepoint: what to go on from instead; None: from what is committed.
        ends: of the exchange, for a savepoint: what is in it came later, or is in the savepoint's state.
    """

    def __init__(
        self, committed: Recovered, savepoint: Savepoint | None, ends: Mapping[TopicPartition, int] | None = None
    ) -> None:
        self.resumed = savepoint is not None
        self.recovered = committed if savepoint is None else savepoint.over(committed, ends or {})
        self.log = merge(self.recovered.states)
        committed_partitions = max((record.state_partition + 1 for record in committed.states), default=0)
        self.partitions = max(self.log.partitions, default=committed_partitions)
        """In how many partitions the state is laid out."""
        self._gone = {record.operator_id for record in committed.states} if self.resumed else set[str]()

    def check(self, known: Sequence[str], forget: Iterable[str], job: str) -> None:
        """Refuses a program that lacks operators of which there is state.

        Raises:
            StateError: there is state of others, which the app does not forget.
        """
        held = {name for name, frames in self.log.states.items() if frames}
        unknown = held - set(known) - set(forget)
        if unknown:
            names = ", ".join(repr(name) for name in sorted(unknown))
            source = "the savepoint" if self.resumed else "the last commit"
            raise StateError(
                f"{source} of job {job!r} holds state of operator {names}, which the program does not have "
                f"(it has {', '.join(sorted(known)) or 'none with state'}): give steps a stable .uid(…), "
                "or drop that state with App(forget_state=(…))"
            )
        self._gone |= held - set(known)
        if self.recovered.epochs:
            frames = sum(len(frames) for state in self.log.states.values() for frames in state.values())
            count = len(self.recovered.epochs)
            logger.info("going on from %s: %d partitions, %d state frames", self._whence, count, frames)

    @property
    def _whence(self) -> str:
        return "a savepoint" if self.resumed else "the last commit"

    def forces_checkpoint(self, partitions: int) -> bool:
        """Whether the first commit has to write all state: it is the first, or what was there has to be voided."""
        return not self.recovered.epochs or self.resumed or bool(self._gone) or self.partitions not in (0, partitions)

    def check_layout(self, job: JobSettings) -> None:
        """Refuses to spread state over the partitions of an exchange that was laid out in others.

        Raises:
            StateError: it was.
        """
        if self.partitions not in (0, job.state_partitions):
            raise StateError(
                f"job {job.name!r} keeps its state in {self.partitions} partitions, and its exchange has "
                f"{job.state_partitions}: it can't run on several workers as it is. Start it under a new name"
            )

    def check_placed(self, job: JobSettings) -> None:
        """Refuses state that is laid out otherwise than by the partitions of the topic.

        Raises:
            StateError: it is laid out by key groups, or the topic has got more partitions since.
        """
        held = [name for name, frames in self.log.states.items() if frames]
        if held and not any(name.startswith(f"{READER}:") for name in held):
            raise StateError(
                f"job {job.name!r} has state that is laid out by key groups, and record_key lays it out by the topic's "
                "partitions: leave record_key out, or start the job under a new name"
            )
        if self.partitions not in (0, job.state_partitions):
            raise StateError(
                f"job {job.name!r} keeps its state by the {self.partitions} partitions that the topic had; now it has "
                f"{job.state_partitions}, and keys have moved: start it under a new name"
            )

    def void(self, deltas: Sequence[PlacedDelta], places: Iterable[int | None]) -> list[PlacedDelta]:
        """The deltas of a checkpoint, with empty state for operators that are no more: or the next start finds them.

        Args:
            places: the state partitions of this worker; None where state is placed by key.
        """
        gone, self._gone = self._gone - {placed.operator_id for placed in deltas}, set()
        empty = [PlacedDelta(name, StateDelta(full=True), place) for name in sorted(gone) for place in places]
        return [*deltas, *empty]
