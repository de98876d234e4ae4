"""Plans that need no exchange, since the records of their topic are partitioned by the key that the state is kept by.

As behind an exchange, what keeps state runs once per partition; but these are the partitions of the topic, and rows are
handed over in memory. State partition i belongs to whoever reads partition i of the topic.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import polars as pl

from thalweg.streams.batch import PARTITION
from thalweg.streams.connector import TopicPartition
from thalweg.streams.engine.exchange.edges import ExchangeEdge, Placement
from thalweg.streams.engine.exchange.reader import ExchangeReader
from thalweg.streams.engine.exchange.record import ExchangeRecord, Upstream
from thalweg.streams.engine.exchange.tasks import ScaledDataflow, Shape
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.record_key import RecordKey
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.routing import KeyByNode
from thalweg.streams.plan.source import SourceNode

logger = logging.getLogger(__name__)

READER = "record-key"
"""How the ids of the receiving ends begin: state that is laid out like this is taken for no other."""


def source_by_key(plan: Plan, placement: Placement) -> SourceNode | None:
    """The source whose records are where their keys' state may be kept; None: rows have to move, or none keeps state.

    It is the plan's only one, and whatever keeps state does so by its record key (and other columns).
    """
    declared = [source for source in plan.sources if source.record_key is not None]
    if not declared or not placement.edges:
        return None
    reason = _why_not(plan, placement)
    if reason:
        logger.info("record_key=%r saves no exchange: %s", declared[0].record_key, reason)
        return None
    return declared[0]


def _why_not(plan: Plan, placement: Placement) -> str:
    if len(plan.sources) > 1:
        return "the plan reads several topics"
    column = str(plan.sources[0].record_key)
    behind = {node for number in placement.behind for node in placement.groups[number].nodes}
    for edge in placement.distinct:
        if edge.upstream in behind:
            return f"rows of {plan.ids[edge.upstream]!r} come out of state, and move by {edge.keys}"
        if edge.keys is not None and column not in edge.keys:
            return f"rows of {plan.ids[edge.upstream]!r} are needed by {', '.join(edge.keys) or 'no key'}"
        if edge.keys is not None and not _passes(edge.upstream, column):
            return f"{plan.ids[edge.upstream]!r} may change the column"
    return ""


def _passes(node: Node, column: str) -> bool:
    """Whether a column of the source comes out of a node as it was."""
    if isinstance(node, SourceNode):
        return True
    kept = column not in node.computed if isinstance(node, KeyByNode) else node.key_columns(((column,),)) == (column,)
    return kept and len(node.inputs) == 1 and _passes(node.inputs[0], column)


class PlacedDataflow(ScaledDataflow):
    """One worker's share of such a plan; alone it has all of it. Nothing is ever under way between workers.

    Args:
        source: whose records are in their places.
    """

    def __init__(self, plan: Plan, outputs: Outputs, shape: Shape, source: SourceNode, **settings: Any) -> None:
        super().__init__(plan, outputs, shape, lambda records: None, **settings)
        self.front.source(source.topic).record_key = RecordKey(
            source.topic, str(source.record_key), source.partitioner, shape.partitions
        )

    def _reader(self, partition: int | None, edge: ExchangeEdge) -> ExchangeReader:
        (source,) = self._plan.sources
        return ExchangeReader(edge, [(source.topic, int(partition or 0))], (source.topic,), prefix=READER)

    def push(self, topic: str, frame: pl.DataFrame, dead: pl.DataFrame | None = None) -> None:
        """Sends rows of the source through the front, and on to the tasks of their partitions."""
        self.front.push(topic, frame, dead)
        self._hand_over()

    def advance(self, clock: int) -> None:
        """Brings the watermark of each partition to its task."""
        self.front.advance(clock)
        self._hand_over()
        for task in self.tasks.values():
            task.advance(clock)

    def _hand_over(self) -> None:
        for number in self.front.writers:
            writer = self.front.writer(number)
            frames = writer.take()
            reached = dict(self._of_sources(self.front, number, {}))
            for partition, task in self.tasks.items():
                rows = [f.filter(pl.col(PARTITION) == partition) if len(self.tasks) > 1 else f for f in frames]
                own = {upstream: state for upstream, state in reached.items() if upstream[1] == partition}
                task.receive([*(ExchangeRecord(writer.edge.id, {}, frame) for frame in rows), _told(writer.edge, own)])

    # -- nothing goes through a topic

    def news(self, at_end: Mapping[str, frozenset[int]]) -> bool:
        return False

    def flush(self, at_end: Mapping[str, frozenset[int]]) -> set[TopicPartition]:
        return set()


def _told(edge: ExchangeEdge, reached: dict[Upstream, Any]) -> ExchangeRecord:
    return ExchangeRecord(edge.id, reached, None)
