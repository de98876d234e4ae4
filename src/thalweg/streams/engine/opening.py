"""Opening the sources of a job: who reads what, and whether rows have to move between workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from inspect import signature

import polars as pl

from thalweg.errors import RestartRequired, SourceClosed, StateError
from thalweg.records import Decoder
from thalweg.streams.batch import stacked
from thalweg.streams.connector import Broker, GroupSource, JobSettings, ScalableBroker, Source, SourceBatch
from thalweg.streams.engine.exchange.by_record import source_by_key
from thalweg.streams.engine.exchange.edges import place
from thalweg.streams.engine.exchange.tasks import Shape
from thalweg.streams.engine.tombstones import TombstoneDecoder
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.source import SourceNode

Stopped = Callable[[], bool]
_ATTEND_MS = 50
_LEFT_BY = 20.0
"""Seconds after which a worker that has ended is missed by its group for certain (the session timeout is 6 s)."""

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

    alone: bool = True
    """Nobody else reads a partition of these topics."""

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

    def exchange_ends(self) -> dict[tuple[str, int], int]:
        """Where the exchange ends, by the broker: who goes on from there passes over what is in it."""
        source = None if self.exchange is None else self.sources[self.exchange]
        if self.exchange is None or not isinstance(source, GroupSource):
            return {}
        return {(self.exchange, p): end for p, end in source.ends().items()}


def exchange_topic(job: str) -> str:
    """The topic through which the rows of a job move between its workers."""
    return f"{job}-exchange"


def open_sources(
    plan: Plan, broker: Broker, job: JobSettings, stack: ExitStack, stopped: Stopped, *, scaled: bool = False
) -> Opened:
    """Opens the sources of a plan, and the exchange where there is more than one worker.

    One worker alone does without the exchange. Once a job has had several it keeps the exchange, as rows may be in it.

    Args:
        stopped: whether the job has been told to end; looked at while other workers are waited for.
        scaled: the state to go on from is laid out for an exchange.

    Raises:
        RestartRequired: it has.
        ConnectorError: what is wrong with a topic or the broker.
    """
    opened = _open(plan, broker, job, stack, stopped, scaled)
    opened.alone = all(_whole(opened.owned, broker, topic) for topic in opened.owned)
    return opened


def await_alone(opened: Opened, job: str, stopped: Stopped) -> None:
    """Waits until other workers of the job have left the group; then partitions are dealt out anew.

    Raises:
        RestartRequired: they have, or the job has been told to end.
        StateError: they stay.
    """
    until = time.monotonic() + _LEFT_BY
    groups = [source for source in opened.sources.values() if isinstance(source, GroupSource)]
    while not opened.alone:
        if stopped():
            raise RestartRequired("told to stop while it waited for other workers to leave")
        if time.monotonic() > until or not groups:
            raise StateError(
                f"job {job!r} has other workers running, which hold part of its state: end all of them first (SIGTERM "
                "to thalweg run), so that everything is committed"
            )
        for source in groups:
            source.attend(_ATTEND_MS)


def _whole(owned: Mapping[str, Sequence[int]], broker: Broker, topic: str) -> bool:
    """Whether nobody else reads a partition of the topic."""
    return len(owned[topic]) >= broker.partitions(topic)


def _open(plan: Plan, broker: Broker, job: JobSettings, stack: ExitStack, stopped: Stopped, scaled: bool) -> Opened:
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
    exchanges = scalable is not None and (job.workers > 1 or scaled or scalable.has_topic(topic))
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
        self._errors: list[BaseException] = []

    def run(self) -> dict[str, Sequence[int]]:
        """The partitions of each topic that this worker owns."""
        # No pool: those take no more work once the main thread is done, and a job may well live on in another.
        threads = [
            threading.Thread(target=self._try, args=item, name=f"thalweg-open-{item[0]}", daemon=True)
            for item in self._sources.items()
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._join(threads)
            if any(thread.is_alive() for thread in threads) and (self._stopped() or self._failed.is_set()):
                self._failed.set()
                for source in self._sources.values():
                    source.close()
        if self._stopped():
            raise RestartRequired("told to stop while it opened its sources")
        # The others were closed because of the first: theirs say only that.
        for error in sorted(self._errors, key=lambda error: isinstance(error, SourceClosed)):
            raise error
        return dict(self._owned)

    @staticmethod
    def _join(threads: Sequence[threading.Thread]) -> None:
        """Waits until they have ended, for a moment at most."""
        until = time.monotonic() + 0.1
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _try(self, topic: str, source: Source) -> None:
        try:
            self._open(topic, source)
        except BaseException as error:
            self._errors.append(error)
            self._failed.set()

    def _open(self, topic: str, source: Source) -> None:
        if topic not in self._owned:
            self._owned[topic] = source.open()
        while isinstance(source, GroupSource) and len(self._owned) < len(self._sources):
            if self._failed.is_set():
                return
            self._attend(topic, source)

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
    decoder = make(node.schema, columns, **options)
    if node.tombstones == "dead-letter":
        return decoder
    return TombstoneDecoder(decoder, node.tombstone_keys, node.schema or {})


def joined(batches: Sequence[SourceBatch]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The rows and the dead letters of several polls as one frame each."""
    frames = [batch.frame for batch in batches if batch.frame.height]
    dead = [batch.dead for batch in batches if batch.dead is not None and batch.dead.height]
    # Columns differ where the schema evolved on the way.
    return stacked(frames) if frames else batches[0].frame, stacked(dead) if dead else None
