"""`App`: one job: its streams, its broker, and how it runs."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.formats import Format
from thalweg.streams.checkpoints import CheckpointConfig
from thalweg.streams.connector import Broker, Guarantee, JobSettings, open_broker
from thalweg.streams.correlating import CorrelatingApp
from thalweg.streams.engine.requests import Requests
from thalweg.streams.plan.graph import Plan, resolve
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.querying import Querying
from thalweg.streams.savepoints import Savepoint, Savepoints
from thalweg.streams.savepoints import opened as savepoint_at
from thalweg.streams.sources import optional_duration, source_node
from thalweg.streams.stream import DataStream
from thalweg.streams.tables import AppTables
from thalweg.streams.watermarks import WatermarkGenerator
from thalweg.streams.worker import this_worker

if TYPE_CHECKING:
    from thalweg.streams.engine.runner import Runner
    from thalweg.streams.engine.settings import SessionSettings
    from thalweg.streams.engine.status import JobStatus

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class App(CorrelatingApp, Querying, Savepoints, AppTables):
    """A job. Its name stands for its committed progress: the same name goes on where it was.

    Args:
        name: letters, digits, `.`, `_`, `-`; without one, the name of the running script.
        broker: `sqlite:///file.db` (the embedded log), `kafka://host:9092[,host:port…]`, or an open `Broker`, which
            stays the caller's to close.
        guarantee: "exactly-once" or "at-least-once".
        checkpoint: how often a full snapshot supersedes the state deltas.
        commit_interval: how often progress is committed; it bounds the latency of exactly-once output.
        late_events: "dead-letter" (also where `.late` is read) or "side-output" (only `.late` gets them).
        max_batch_rows: the most rows that one batch holds.
        checkpoint_storage: where a job on Kafka keeps its durable state instead of a changelog topic: a folder that all
            workers share (`file:///mnt/shared/jobs`) or an object store (`s3://bucket/prefix`).
        max_drift: how far ahead of each other streams that meet in a join or a union may be read, by event time: the
            faster one waits, which bounds what joins hold; None: any.
        forget_state: operator ids whose committed state may be dropped, when the program no longer has them.
        broker_settings: handed to the broker.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        broker: str | Broker = "sqlite:///data.db",
        guarantee: Guarantee | str = Guarantee.EXACTLY_ONCE,
        checkpoint: CheckpointConfig | None = None,
        commit_interval: Duration = "50ms",
        late_events: str = "dead-letter",
        max_batch_rows: int = 65_536,
        checkpoint_storage: str | None = None,
        max_drift: Duration | None = "1m",
        forget_state: tuple[str, ...] = (),
        **broker_settings: Any,
    ) -> None:
        self.name = name if name is not None else script_name()
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"app name {self.name!r}: use letters, digits, '.', '_' and '-'")
        if broker_settings and not isinstance(broker, str):
            raise ConfigurationError(f"settings {', '.join(broker_settings)}: give them to the broker, which is open")
        self.broker = broker
        self.broker_settings = broker_settings
        self.guarantee = _guarantee(guarantee)
        self.checkpoint = checkpoint or CheckpointConfig()
        self.commit_interval = milliseconds(commit_interval, name="commit_interval", minimum=1)
        if late_events not in {"dead-letter", "side-output"}:
            raise ConfigurationError(f"late_events is {late_events!r}; use 'dead-letter' or 'side-output'")
        self.late_events = late_events
        if max_batch_rows < 1:
            raise ConfigurationError(f"max_batch_rows is {max_batch_rows}; it must be at least 1")
        self.max_batch_rows = max_batch_rows
        self.checkpoint_storage = checkpoint_storage
        self.max_drift = optional_duration(max_drift, "max_drift")
        self.forget_state = tuple(forget_state)
        self._requests = Requests()
        self._lock = threading.Lock()
        self._stop_requested = threading.Event()
        self._running = False
        self._runner: Runner | None = None
        self._nodes: list[Node] = []
        self._sources: dict[str, tuple[SourceNode, dict[str, Any]]] = {}

    def stream(
        self,
        topic: str,
        *,
        schema: Any = None,
        timestamp: Any = None,
        timestamp_unit: str = "ms",
        watermark: WatermarkGenerator | Duration = 0,
        format: str | Format = "json",
        max_ahead: Duration | None = "1h",
        idle_timeout: Duration | None = "1s",
        close_idle_after: Duration | None = None,
        start: str = "earliest",
        record_key: str | None = None,
        partitioner: str | None = None,
        tombstones: str = "dead-letter",
    ) -> DataStream:
        """Reads a topic.

        Args:
            topic: its name; it must exist when the job starts.
            schema: a dataclass, msgspec Struct, pydantic model or mapping of types; without one it is inferred from the
                first events and evolves.
            timestamp: the column (or expression) of event time: numbers, datetimes or ISO 8601 strings; without it the
                broker's record time.
            timestamp_unit: what numbers count: "s", "ms", "us" or "ns".
            watermark: how far out of order the events of a partition may come.
            format: "json", "arrow", "raw", or a schema registry's ("avro", "json-schema", "protobuf", an `AvroFormat`
                …); without a `schema` the columns are then those of the subject's latest version.
            max_ahead: events with a timestamp more than this ahead of the clock become dead letters, so that they can't
                fling the watermark; None: no bound.
            idle_timeout: a partition that is read to its end and has had no events for this long does not hold the
                watermark back; None: it does.
            close_idle_after: when all partitions are read to their end and quiet for this long, event time goes on with
                the clock, which closes the last windows; None (default): they wait for events.
            start: where a partition without a committed position starts: "earliest" or "latest".
            record_key: the column by which the topic's records are in partitions. A plan that reads only this topic
                and keeps all state by that column (alone or with others) then needs no exchange. Rows that are
                elsewhere become dead letters; where many of the first are, the job is refused.
            partitioner: how its producers chose partitions by the column's text: "murmur2" (Kafka's Java client,
                `KafkaProducer`, `.to()`; the default) or "crc32" (librdkafka's own default).
            tombstones: what a record without a value is: a "dead-letter", or nothing ("skip"), as after the deletes of
                a database's change records. A table takes it as a delete (see `table`).
        """
        return DataStream(
            topic,
            app=self,
            schema=schema,
            timestamp=timestamp,
            timestamp_unit=timestamp_unit,
            watermark=watermark,
            format=format,
            max_ahead=max_ahead,
            idle_timeout=idle_timeout,
            close_idle_after=close_idle_after,
            start=start,
            record_key=record_key,
            partitioner=partitioner,
            tombstones=tombstones,
        )

    def plan(self) -> Plan:
        """The resolved plan.

        Raises:
            PlanError: it can't run; the message says why and what to do.
        """
        return resolve([node for node in self._nodes if node.has_effect])

    def explain(self) -> str:
        """The plan as a tree: what runs vectorised, what per row and why, what fuses, keys and modes."""
        from thalweg.streams.plan.explain import explain

        broker = self.broker if isinstance(self.broker, str) else type(self.broker).__name__
        return explain(self.plan(), title=f"{self.name} · {self.guarantee} · {broker}")

    def to_json(self) -> dict[str, Any]:
        """The plan as a graph of plain data."""
        return {"name": self.name, **self.plan().to_json()}

    # -- running

    def run(
        self,
        *,
        seconds: float | None = None,
        until_caught_up: bool = False,
        from_savepoint: str | Path | Savepoint | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Runs the job until it is stopped; blocks.

        It ends cleanly (the batch finished, the last epoch committed) on `stop()`, on SIGINT or SIGTERM where this is
        the main thread, after `seconds`, or, with `until_caught_up`, when everything that the broker had is processed.

        Args:
            seconds: how long to run at most.
            until_caught_up: end when all sources are read to their end.
            from_savepoint: start from this savepoint (see `savepoint`) instead of the last commit; the first commit
                makes it the job's own.
            clock: the job's clock, ms UTC; the wall clock where not given.

        Raises:
            PlanError: the plan can't run.
            ConnectorError: the broker refused, or another instance took over (`FencedError`).
            StateError: the last commit, or the savepoint, can't be read or does not fit the program.
            OperatorFailed: an operator or a subscriber raised; its epoch is not committed.
        """
        if from_savepoint is not None and this_worker().workers > 1:
            raise ConfigurationError(
                f"app {self.name!r}: several workers can't each start from a savepoint; app.restore(path) (or thalweg "
                "savepoint resume --workers N) makes it the job's last commit, from which they go on"
            )
        self._run(seconds=seconds, until_caught_up=until_caught_up, savepoint=savepoint_at(from_savepoint), clock=clock)

    def _run(
        self,
        *,
        seconds: float | None = None,
        until_caught_up: bool = False,
        savepoint: Savepoint | None = None,
        clock: Callable[[], int] | None = None,
        state_only: bool = False,
    ) -> None:
        from thalweg.streams.engine.runner import Runner, stopped_by_signals, wall_clock

        plan = self.plan()
        with self._lock:
            if self._runner is not None and self._running:
                raise ConfigurationError(f"app {self.name!r} is running already")
            self._running = True
        broker: Broker | None = None
        try:
            opened = self.broker if not isinstance(self.broker, str) else None
            if opened is None:
                opened = broker = open_broker(str(self.broker), **self.broker_settings)
            this_worker().check(opened, self.name, self.checkpoint_storage)
            settings = replace(self._session_settings(), savepoint=savepoint, state_only=state_only)
            runner = Runner(plan, opened, settings, clock or wall_clock)
            self._runner = runner
            if self._stop_requested.is_set():
                runner.stop()
            with stopped_by_signals(self.stop):
                runner.run(seconds=seconds, until_caught_up=until_caught_up)
        finally:
            self._running = False
            self._stop_requested.clear()
            if broker is not None:
                broker.close()

    def stop(self) -> None:
        """Asks the running job to end cleanly; from any thread, also while it is starting."""
        self._stop_requested.set()
        if self._runner is not None:
            self._runner.stop()

    def status(self) -> JobStatus:
        """The job as it was within the last tenth of a second; from any thread."""
        from thalweg.streams.engine.status import JobStatus

        if self._runner is None:
            return JobStatus(self.name, "new", str(self.guarantee))
        return self._runner.status()

    def _session_settings(self) -> SessionSettings:
        from thalweg.streams.engine.settings import SessionSettings

        worker = this_worker()
        return SessionSettings(
            job=JobSettings(
                self.name,
                worker.slot,
                self.guarantee,
                workers=worker.workers,
                checkpoint_storage=self.checkpoint_storage,
            ),
            commit_interval=self.commit_interval,
            checkpoint=self.checkpoint,
            max_batch_rows=self.max_batch_rows,
            late_to_dead_letters=self.late_events == "dead-letter",
            max_drift=self.max_drift,
            forget_state=self.forget_state,
            requests=self._requests,
        )

    # -- called by DataStream

    def _register(self, node: Node) -> None:
        self._nodes.append(node)

    def _replace(self, old: Node, new: Node) -> None:
        """Puts `new` in the place of `old`, which nothing may read yet."""
        readers = [node for node in self._nodes if old in node.inputs]
        if readers:
            raise ConfigurationError(f"uid: call it right after the step, before {readers[0].kind} reads its stream")
        if isinstance(old, SourceNode) and isinstance(new, SourceNode):
            self._sources[old.topic] = (new, self._sources[old.topic][1])
        else:
            self._nodes[self._nodes.index(old)] = new

    def _source(self, topic: str, **settings: Any) -> SourceNode:
        """The source node of a topic: one per topic, as it has one position."""
        if topic in self._sources:
            node, before = self._sources[topic]
            if {k: v for k, v in settings.items() if v != before.get(k)}:
                raise ConfigurationError(f"topic {topic!r} is already read with other settings; use that stream again")
            return node
        node = source_node(topic, **settings)
        self._sources[topic] = (node, settings)
        return node


def _guarantee(value: Guarantee | str) -> Guarantee:
    try:
        return Guarantee(value)
    except ValueError:
        raise ConfigurationError(f"guarantee is {value!r}; use 'exactly-once' or 'at-least-once'") from None


def script_name() -> str:
    """The running script's name (for `python -m`, its package's), for an app that was given none."""
    path = Path(sys.argv[0] or "app").resolve()
    stem = path.parent.name if path.stem == "__main__" else path.stem
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("-._") or "app"


_default: App | None = None


def default_app() -> App:
    """The app of streams that name none; made when first asked for."""
    global _default
    if _default is None:
        _default = App()
    return _default
