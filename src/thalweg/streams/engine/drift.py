"""Inputs that meet (in a join or a union) are held together: what runs ahead waits, so that state stays bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from thalweg.streams.batch import MIN_TIME
from thalweg.streams.engine.dataflow import Dataflow
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.plan.graph import Plan

_AGAIN = 0.01
"""Seconds for which what the exchange says of the others is taken to hold."""


class Holding(Protocol):
    """Says which sources run too far ahead."""

    def held(self, read_to_end: Callable[[str], bool]) -> set[str]:
        """The sources to leave alone for now.

        Args:
            read_to_end: whether the broker has nothing more of a source (of this worker's share) and all is processed.
        """


def drift_of(plan: Plan, dataflow: Dataflow | ScaledDataflow, bound: int | None) -> Holding:
    """Holds the inputs of a job together, wherever they meet."""
    if isinstance(dataflow, ScaledDataflow):
        return ScaledDrift(plan, dataflow, bound)
    return Drift(dataflow, bound)


class Drift:
    """Says which sources are too far ahead of one that they meet.

    Only a source that still has something to read can be waited for: so the job never stands still.

    Args:
        dataflow: the running plan.
        bound: how far ahead of the slowest a source may be, ms of event time; None: any.
    """

    def __init__(self, dataflow: Dataflow, bound: int | None) -> None:
        self._dataflow = dataflow
        self._bound = bound
        meetings = {topic: frozenset(dataflow.meetings(topic)) for topic in dataflow.sources}
        meets = {
            topic: [other for other in meetings if other != topic and meetings[topic] & meetings[other]]
            for topic in meetings
        }
        self._meets = {topic: others for topic, others in meets.items() if others}

    def held(self, read_to_end: Callable[[str], bool]) -> set[str]:
        """The sources to leave alone for now.

        Args:
            read_to_end: whether the broker has nothing more of a source and all is processed.
        """
        bound = self._bound
        if bound is None:
            return set()
        at = {topic: self._dataflow.source(topic).watermarks.event_time for topic in self._meets}
        ahead = {topic: [o for o in others if at[topic] - at[o] > bound] for topic, others in self._meets.items()}
        return {topic for topic, behind in ahead.items() if any(not read_to_end(other) for other in behind)}


class ScaledDrift:
    """Like `Drift`, for one worker of several: what it reads waits for what any of them reads.

    How far the others are comes with their rows through the exchange; so the slowest partition of a
    source counts, whoever reads it, as long as it has something left to read. The slowest partition of all never
    waits: it is behind all others. A worker that runs no task hears nothing, and waits for nobody.

    Args:
        plan: the whole job's.
        dataflow: this worker's share.
        bound: as for `Drift`.
    """

    def __init__(self, plan: Plan, dataflow: ScaledDataflow, bound: int | None) -> None:
        self._dataflow = dataflow
        self._bound = bound
        self._meets: dict[str, set[str]] = {}
        for node in plan.nodes:
            together = set(plan.topics[node]) if len(node.inputs) > 1 else set()
            for topic in together:
                self._meets.setdefault(topic, set()).update(together - {topic})
        self._slowest: dict[str, int | None] = {}
        self._until = 0.0

    def held(self, read_to_end: Callable[[str], bool]) -> set[str]:
        """See `Holding`; whether a source is read to its end is known by the exchange, for all workers."""
        if self._bound is None or not self._meets or not self._dataflow.tasks:
            return set()
        if time.monotonic() >= self._until:
            self._slowest = self._dataflow.slowest()
            self._until = time.monotonic() + _AGAIN
        return {topic for topic, others in self._meets.items() if self._is_ahead(topic, others, self._bound)}

    def _is_ahead(self, topic: str, others: set[str], bound: int) -> bool:
        own = self._dataflow.source(topic).watermarks.event_time
        slowest = [at for other in others if (at := self._slowest.get(other)) is not None]
        return own != MIN_TIME and any(own - at > bound for at in slowest)
