"""Inputs that meet (in a join or a union) are held together: what runs ahead waits, so that state stays bounded."""

from __future__ import annotations

from collections.abc import Callable

from thalweg.streams.engine.dataflow import Dataflow


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
