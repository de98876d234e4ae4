"""Opening the sources of a job: who reads what, and whether rows have to move between workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from inspect import signature

import polars as pl

from thalweg.errors import RestartRequired, SourceClosed
from thalweg.records import Decoder
from thalweg.streams.connector import Broker, GroupSource, JobSettings, ScalableBroker, Source, SourceBatch
from thalweg.streams.engine.exchange.by_record import source_by_key
from thalweg.streams.engine.exchange.edges import place
from thalweg.streams.engine.exchange.tasks import Shape
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.source import SourceNode

Stopped = Callable[[], bool]
_ATTEND_MS = 50

logger = logging.getLogger(__name__)


@dataclass
class Opened:
    """The open sources of one worker.

    With `shape` state is laid out for several workers: rows go through the topic `exchange`, which is a source as well;
    or they are where they belong, in the partitions of the topic of `placed`.
    """

    sources: dict[str, Source]
    owned: dict[str, Sequence[int]]
    """The partitions of each topic that this worker reads, the exchange included."""
    exchange: str | None = None
    shape: Shape | None = None
    placed: SourceNode | None = None

    @property
    def partitions(self) -> list[tuple[str, int]]:
        """All of them, with their topics."""
        return [(topic, p) for topic, numbers in self.owned.items() for p in numbers]

    @property
    def state_partitions(self) -> int:
        """In how many partitions the job's state is laid out."""
        if self.shape is not None:
            return self.shape.partitions
        return max((len(numbers) for numbers in self.owned.values()), default=1) or 1

    def first_positions(self) -> dict[tuple[str, int], int]:
        """Where reading began, by the broker: a worker of several must be able to commit what it has not read yet."""
        return {
            (topic, p): position
            for topic, source in self.sources.items()
            if self.shape is not None and isinstance(source, GroupSource)
            for p, position in source.first_positions().items()
        }


def exchange_topic(job: str) -> str:
    """The topic through which the rows of a job move between its workers."""
    return f"{job}-exchange"


def open_sources(plan: Plan, broker: Broker, job: JobSettings, stack: ExitStack, stopped: Stopped) -> Opened:
    """Opens the sources of a plan, and the exchange where there is more than one worker.

    One worker alone does without the exchange. Once a job has had several it keeps the exchange, as rows may be in it.

    Args:
        stopped: whether the job has been told to end; looked at while other workers are waited for.

    Raises:
        RestartRequired: it has.
        ConnectorError: what is wrong with a topic or the broker.
    """
    with _timed("decoders"):
        sources = {node.topic: _source(node, plan, broker, job, stack) for node in plan.sources}
    placement = place(plan)
    owned: dict[str, Sequence[int]]
    placed = source_by_key(plan, placement)
    if placed is not None:
        owned = _Opening(sources, {}, stopped).run()
        count = broker.partitions(placed.topic)
        return Opened(sources, owned, None, Shape(placement, count, owned[placed.topic], {placed.topic: count}), placed)
    scalable = broker if placement.edges and isinstance(broker, ScalableBroker) else None
    topic = exchange_topic(job.name)
    exchanges = scalable is not None and (job.workers > 1 or scalable.has_topic(topic))
    owned = {}
    if not exchanges:
        owned = _Opening(sources, {}, stopped).run()
        exchanges = scalable is not None and any(len(p) < broker.partitions(t) for t, p in owned.items())
    if scalable is None or not exchanges:
        return Opened(sources, owned)
    topics = {name: broker.partitions(name) for name in sources}
    count = scalable.ensure_exchange(topic, max(topics.values()))
    sources[topic] = _exchange_source(topic, broker, job, stack)
    owned = _Opening(sources, owned, stopped).run()
    return Opened(sources, owned, topic, Shape(placement, count, owned[topic], topics))


class _Opening:
    """Opens sources together.

    Each joins a group of its own, and every member of a group waits for the others. So none may be left alone once it
    is open, or two workers could wait for each other in two groups: those that are open answer their groups until the
    last is, and join again where their group deals out anew.
    """

    def __init__(self, sources: Mapping[str, Source], owned: Mapping[str, Sequence[int]], stopped: Stopped) -> None:
        self._sources = sources
        self._owned = dict(owned)
        self._stopped = stopped
        self._failed = threading.Event()

    def run(self) -> dict[str, Sequence[int]]:
        """The partitions of each topic that this worker owns."""
        with ThreadPoolExecutor(len(self._sources), thread_name_prefix="thalweg-open") as pool:
            opening = [pool.submit(self._open, topic, source) for topic, source in self._sources.items()]
            pending = set(opening)
            while pending:
                pending = wait(pending, timeout=0.1).not_done
                if pending and (self._stopped() or self._failed.is_set()):
                    self._failed.set()
                    for source in self._sources.values():
                        source.close()
        if self._stopped():
            raise RestartRequired("told to stop while it opened its sources")
        errors = [error for future in opening if (error := future.exception()) is not None]
        # The others were closed because of the first: theirs say only that.
        for error in sorted(errors, key=lambda error: isinstance(error, SourceClosed)):
            raise error
        return dict(self._owned)

    def _open(self, topic: str, source: Source) -> None:
        try:
            if topic not in self._owned:
                self._owned[topic] = source.open()
            while isinstance(source, GroupSource) and len(self._owned) < len(self._sources):
                if self._failed.is_set():
                    return
                self._attend(topic, source)
        except BaseException:
            self._failed.set()
            raise

    def _attend(self, topic: str, source: Source) -> None:
        assert isinstance(source, GroupSource)
        try:
            source.attend(_ATTEND_MS)
        except RestartRequired:
            del self._owned[topic]
            self._owned[topic] = source.open()


def _source(node: SourceNode, plan: Plan, broker: Broker, job: JobSettings, stack: ExitStack) -> Source:
    decoder = decoder_of(node, plan.required[node])
    source = broker.source(node.topic, decoder, replace(job, start=node.start), broker_timestamps=node.has_broker_time)
    stack.callback(source.close)
    return source


def _exchange_source(topic: str, broker: Broker, job: JobSettings, stack: ExitStack) -> Source:
    from thalweg.formats import open_format

    source = broker.source(topic, open_format("raw").decoder(), replace(job, start="earliest"))
    stack.callback(source.close)
    return source


@contextmanager
def _timed(what: str) -> Iterator[None]:
    """Says so where kernels had to be compiled."""
    started = time.monotonic()
    yield
    if (elapsed := time.monotonic() - started) > 1:
        logger.info("made the %s ready in %.1f s; the next start finds compiled kernels in the cache", what, elapsed)


def decoder_of(node: SourceNode, columns: frozenset[str] | None) -> Decoder:
    """The decoder of a source, for the columns that the plan reads.

    Where the format checks required fields itself it does so with the record at hand; the source stage checks in any
    case.
    """
    from thalweg.formats import open_format

    make: Callable[..., Decoder] = open_format(node.format, node.topic).decoder
    options = {"required": node.required} if "required" in signature(make).parameters else {}
    return make(node.schema, columns, **options)


def joined(batches: Sequence[SourceBatch]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The rows and the dead letters of several polls as one frame each."""
    frames = [batch.frame for batch in batches if batch.frame.height]
    dead = [batch.dead for batch in batches if batch.dead is not None and batch.dead.height]
    if not frames:
        frame = batches[0].frame
    elif len(frames) == 1:
        frame = frames[0]
    elif all(other.schema == frames[0].schema for other in frames):
        frame = pl.concat(frames)
    else:
        frame = pl.concat(frames, how="diagonal_relaxed")  # the schema evolved on the way
    return frame, pl.concat(dead) if dead else None
