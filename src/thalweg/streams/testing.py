"""The test driver: a plan on a virtual clock, without a broker, through the same operators as a running job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.records import DEAD_LETTER_SCHEMA
from thalweg.streams.app import App
from thalweg.streams.batch import CHANGE, INGESTED, MAX_TIME, OFFSET, PARTITION, RESERVED, TIMESTAMP
from thalweg.streams.connector import SinkWrite, StateRecord
from thalweg.streams.engine.dataflow import Dataflow
from thalweg.streams.engine.dead_letters import late_letters
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.engine.exchange.workers import Workers
from thalweg.streams.engine.state_codec import encode_placed, merge
from thalweg.streams.operator import Account
from thalweg.streams.plan.graph import Plan, resolve
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.sink import CaptureNode, SinkNode
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.stream import DataStream
from thalweg.streams.watermarks import PartitionWatermarks

Rows = pl.DataFrame | Sequence[Mapping[str, Any]]


class TestDriver:
    """Runs the plan of streams, or of a whole app, step by step.

    Args:
        targets: the streams whose output is wanted, or one `App` (then the output is what goes to its topics).
        partitions: how many partitions each source has; the watermark is the least over all of them.
        clock: where the virtual clock starts, ms UTC. Without it the clock starts at 0 and `max_ahead` is not checked.
        batch_size: cuts what is sent into batches of at most so many rows.
        exchange: runs the plan as several workers would: rows move through an exchange of so many partitions to the
            operators that keep state.
        workers: how many share the partitions of the sources and of the exchange. Without it there is one, who uses
            the exchange; with 1 it runs without, as a job does that has never had more (see `restore`).

    >>> from thalweg.streams import App
    >>> stream = App("test").stream("numbers", timestamp="t").filter(pl.col("n") > 1)
    >>> driver = TestDriver(stream)
    >>> driver.send([{"t": 10, "n": 1}, {"t": 20, "n": 2}])
    >>> driver.output().to_dicts()
    [{'t': 20, 'n': 2}]
    """

    __test__ = False  # for pytest: a tool, not a test class

    def __init__(
        self,
        *targets: DataStream | App,
        partitions: int = 1,
        clock: int | None = None,
        batch_size: int | None = None,
        exchange: int | None = None,
        workers: int | None = None,
    ) -> None:
        if not targets:
            raise ConfigurationError("give the driver a stream or an app")
        if workers is not None and (workers < 1 or exchange is None):
            raise ConfigurationError(f"workers is {workers}: there is at least one, and several need exchange=")
        self.clock = clock or 0
        self.batch_size = batch_size
        self._partitions = partitions
        self._exchange = exchange
        self._workers = 1 if workers is None else workers
        self._exchanges = exchange is not None and workers != 1
        self._checks_ahead = clock is not None
        self._captures: dict[tuple[Node, str], str] = {}
        self._whole_app = isinstance(targets[0], App)
        self._app = targets[0] if isinstance(targets[0], App) else targets[0].app
        self.plan = self._resolve(targets)
        self._outputs = _Kept()
        self._start()

    def _resolve(self, targets: Iterable[DataStream | App]) -> Plan:
        effects: list[Node] = []
        for target in targets:
            if isinstance(target, App):
                effects += [node for node in target._nodes if node.has_effect]
            else:
                effects.append(self._capture(target.node, target._port))
        return resolve([self._capture_sink(n) if isinstance(n, SinkNode) else n for n in effects])

    def _capture(self, node: Node, port: str) -> Node:
        name = f"capture-{len(self._captures)}"
        self._captures[node, port] = name
        return CaptureNode(name=name, inputs=(node,), input_ports=(port,), uid=name)

    def _capture_sink(self, sink: SinkNode) -> Node:
        """A sink writes in its own format; here its rows are kept as they are."""
        sink.mode((self._mode_of(sink.inputs[0]),))
        name = f"topic {sink.topic}"
        return CaptureNode(name=name, inputs=sink.inputs, input_ports=sink.input_ports, uid=sink.uid or name)

    def _mode_of(self, node: Node) -> Any:
        return node.mode(tuple(self._mode_of(upstream) for upstream in node.inputs))

    def _start(self) -> None:
        self._offsets: dict[tuple[str, int], int] = {}
        exchange = self._exchange if self._exchanges else None
        self.workers = Workers(
            self.plan,
            self._outputs,
            self._partitions,
            workers=self._workers,
            exchange=exchange,
            job_name=self._app.name,
        )
        self.workers.begin(self.clock, self._watermarks, check_ahead=self._checks_ahead)

    def _watermarks(self, source: SourceNode, partitions: range) -> PartitionWatermarks:
        return PartitionWatermarks(
            partitions,
            source.watermark.max_out_of_orderness,
            idle_timeout=source.idle_timeout,
            close_idle_after=source.close_idle_after,
            clock=self.clock,
        )

    @property
    def dataflow(self) -> Dataflow | ScaledDataflow:
        """What the first worker runs."""
        return self.workers.members[0]

    # -- what goes in

    def send(self, rows: Rows, *, partition: int = 0, source: str | None = None) -> None:
        """Sends events of one partition, then lets the watermark follow, as a running job does.

        Args:
            rows: dicts or a frame with the user's columns; `__ts` gives the record time where the stream has no
                `timestamp` (the virtual clock otherwise).
            partition: which partition they come from.
            source: the topic; needed where the plan reads several.
        """
        node = self._source(source)
        if partition not in range(self._partitions):
            raise ConfigurationError(f"partition {partition}: the driver has {self._partitions}")
        frame = self._frame(rows, node, partition)
        step = self.batch_size or max(frame.height, 1)
        for start in range(0, frame.height, step):
            self.workers.push(node.topic, frame[start : start + step])
            self._advance()

    def send_dead(self, letters: pl.DataFrame, *, source: str | None = None) -> None:
        """Sends what a source could not decode (`DEAD_LETTER_SCHEMA`)."""
        node = self._source(source)
        self.workers.push(node.topic, pl.DataFrame(), letters)

    def advance_watermark(self, event_time: int, *, source: str | None = None) -> None:
        """Moves the watermark of one source (all where not given) to `event_time`; never back."""
        for topic in [source] if source else [s.topic for s in self.plan.sources]:
            self.workers.lift(topic, event_time)
        self._advance()

    def advance_clock(self, clock: int) -> None:
        """Moves the virtual clock to `clock`, ms UTC: processing time, idleness, closing of quiet streams."""
        if clock < self.clock:
            raise ConfigurationError(f"the clock is at {self.clock}; it can't go back to {clock}")
        self.clock = clock
        self._advance()

    def end(self) -> None:
        """Ends all sources: the watermark goes past every event."""
        self.advance_watermark(MAX_TIME - 2**60)

    # -- what comes out

    def output(
        self, stream: DataStream | None = None, *, topic: str | None = None, reserved: bool = False
    ) -> pl.DataFrame:
        """The rows since the last call.

        Args:
            stream: one of the driver's streams; needed where it has several.
            topic: what went to this topic, where the driver has an app.
            reserved: keeps the engine's own columns (`__ts` …).
        """
        frame = self._outputs.take(self._output_name(stream, topic))
        if reserved:
            return frame
        return frame.drop([c for c in frame.columns if c in RESERVED and c != CHANGE])

    def late(self, *, reserved: bool = False) -> pl.DataFrame:
        """The late events since the last call, of all operators."""
        frame = _together([frame for _, _, frame in self._outputs.late_frames])
        self._outputs.late_frames.clear()
        return frame if reserved else frame.drop([c for c in frame.columns if c in RESERVED])

    def dead_letters(self, *, late: bool = False) -> pl.DataFrame:
        """The dead letters since the last call; `late` adds (and takes) the late events as the job would write them."""
        frames = [*self._outputs.dead_frames]
        self._outputs.dead_frames.clear()
        if late:
            frames += [late_letters(frame, name, topics) for name, topics, frame in self._outputs.late_frames]
            self._outputs.late_frames.clear()
        return pl.concat([pl.DataFrame(schema=DEAD_LETTER_SCHEMA), *frames])

    def accounts(self) -> dict[str, Account]:
        """Where the rows of each operator went."""
        return self.workers.accounts()

    # -- crash and recovery

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """What a commit would write now, in wire form: progress, and the state changes since the last snapshot."""
        places = self._partitions if self.workers.placed else self._exchange or self._partitions
        records = [r for placed in self.workers.placed_snapshot(full=full) for r in encode_placed(placed, places)]
        if not full:  # as where a checkpoint beside the commits is taken and then abandoned: the deltas must not notice
            self.workers.placed_snapshot(full=True)
        return Snapshot(records, self.workers.progress(), dict(self._offsets), self.clock)

    def restore(self, *snapshots: Snapshot, workers: int | None = None) -> None:
        """Forgets everything since and goes on from snapshots, in the order in which they were taken: a crash.

        What was put out and not yet read by `output()` is kept, as a committed output would be; so take the snapshot
        where a commit would be.

        Args:
            workers: goes on with so many: each gets the state of its share of the partitions of the exchange.
        """
        if workers is not None:
            if workers < 1 or self._exchange is None:
                raise ConfigurationError(f"workers is {workers}: there is at least one, and several need exchange=")
            self._workers, self._exchanges = workers, self._exchanges or workers > 1
        self._start()
        progress: dict[str, dict[int, int]] = {}
        if snapshots:
            last = snapshots[-1]
            self.clock, self._offsets, progress = last.clock, dict(last.offsets), last.progress
        self.workers.restore(merge(r for snapshot in snapshots for r in snapshot.records), progress)
        self._advance()

    # -- helpers

    def _advance(self) -> None:
        self.workers.advance(self.clock)

    def _source(self, topic: str | None) -> SourceNode:
        sources = {source.topic: source for source in self.plan.sources}
        if topic is None and len(sources) == 1:
            return next(iter(sources.values()))
        if topic not in sources:
            raise ConfigurationError(f"source {topic!r}: the plan reads {', '.join(sources)}")
        return sources[topic]

    def _frame(self, rows: Rows, node: SourceNode, partition: int) -> pl.DataFrame:
        frame = rows if isinstance(rows, pl.DataFrame) else _from_rows(rows, node.schema)
        if node.schema is not None:
            missing = [pl.lit(None, dtype).alias(n) for n, dtype in node.schema.items() if n not in frame.columns]
            frame = frame.with_columns(missing)
        first = self._offsets.get((node.topic, partition), 0)
        self._offsets[node.topic, partition] = first + frame.height
        stamps = [] if TIMESTAMP in frame.columns or not node.has_broker_time else [pl.lit(self.clock).alias(TIMESTAMP)]
        return frame.with_columns(
            pl.lit(partition, pl.Int32).alias(PARTITION),
            pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(OFFSET),
            pl.lit(self.clock, pl.Int64).alias(INGESTED),
            *stamps,
        )

    def _output_name(self, stream: DataStream | None, topic: str | None) -> str:
        if topic is not None:
            return f"topic {topic}"
        if stream is not None:
            name = self._captures.get((stream.node, stream._port))
            if name is None:
                raise ConfigurationError("the driver does not watch that stream: give it to TestDriver(…)")
            return name
        names = [n.name for n in self.plan.nodes if isinstance(n, CaptureNode)]
        if len(names) != 1:
            raise ConfigurationError(f"which output? There are {', '.join(names) or 'none'}")
        return names[0]


@dataclass(frozen=True)
class Snapshot:
    """What one commit keeps of a driver."""

    records: list[StateRecord]
    progress: dict[str, dict[int, int]]
    """Per topic and partition the largest timestamp."""
    offsets: dict[tuple[str, int], int]
    clock: int


class _Kept:
    """Keeps everything that leaves the plan."""

    def __init__(self) -> None:
        self.frames: dict[str, list[pl.DataFrame]] = {}
        self.late_frames: list[tuple[str, tuple[str, ...], pl.DataFrame]] = []
        self.dead_frames: list[pl.DataFrame] = []
        self._schemas: dict[str, pl.DataFrame] = {}

    def write(self, write: SinkWrite) -> None:
        self.captured(f"topic {write.topic}", write.frame)

    def dead(self, frame: pl.DataFrame) -> None:
        self.dead_frames.append(frame)

    def late(self, operator_id: str, topics: tuple[str, ...], frame: pl.DataFrame) -> None:
        self.late_frames.append((operator_id, topics, frame))

    def captured(self, name: str, frame: pl.DataFrame) -> None:
        self.frames.setdefault(name, []).append(frame)
        self._schemas.setdefault(name, frame.clear())

    def take(self, name: str) -> pl.DataFrame:
        """What came under this name since the last call; with its columns also where nothing came."""
        frames = self.frames.pop(name, [])
        return _together(frames) if frames else self._schemas.get(name, pl.DataFrame())


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _from_rows(rows: Sequence[Mapping[str, Any]], schema: pl.Schema | None) -> pl.DataFrame:
    rows = list(rows)
    if schema is None:
        return pl.from_dicts([dict(row) for row in rows], infer_schema_length=None) if rows else pl.DataFrame()
    extra = {TIMESTAMP: pl.Int64()} if any(TIMESTAMP in row for row in rows) else {}
    known = {**schema, **extra}
    return pl.DataFrame([{n: row.get(n) for n in known} for row in rows], schema=known)


def current_rows(changes: pl.DataFrame, keys: Sequence[str] = ()) -> pl.DataFrame:
    """The rows that the changes of a changelog add up to; rows of a stream that appends, as they are.

    Args:
        changes: what came out, in order, with `__op`.
        keys: the stream's key columns; without any, whole rows are inserted and deleted.

    Raises:
        ValueError: a row is deleted that is not there.

    >>> changes = pl.DataFrame({"n": [1, 2, 1], "__op": ["insert", "insert", "delete"]})
    >>> current_rows(changes).to_dicts()
    [{'n': 2}]
    """
    if CHANGE not in changes.columns:
        return changes
    if keys:
        last = changes.unique(list(keys), keep="last", maintain_order=True)
        return last.filter(pl.col(CHANGE) != "delete").drop(CHANGE)
    names = [name for name in changes.columns if name != CHANGE]
    if "update" in changes[CHANGE]:  # one row for all
        return changes.tail(1).filter(pl.col(CHANGE) != "delete").drop(CHANGE)
    sign = pl.when(pl.col(CHANGE) == "delete").then(-1).otherwise(1)
    counts = changes.group_by(names, maintain_order=True).agg(sign.sum().alias("__times"))
    if (counts["__times"] < 0).any():
        raise ValueError(f"deleted, but not there: {counts.filter(pl.col('__times') < 0).head(3).to_dicts()}")
    there = counts.filter(pl.col("__times") > 0)
    return there.select(pl.exclude("__times").repeat_by("__times").explode())


def pieces(frame: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """The frame in pieces of `size` rows, for tests of batch splits."""
    return (frame[start : start + size] for start in range(0, frame.height, size))
