"""`DataStream`: what a user builds a plan with. Nothing runs before `run()`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import polars as pl

from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.batch import LATE, MAIN
from thalweg.streams.changelogs import Changelogs
from thalweg.streams.correlating import CorrelatingStream
from thalweg.streams.grouping import Grouping
from thalweg.streams.joining import Joining
from thalweg.streams.plan.functions import check_columns, compile_for, expressions_of
from thalweg.streams.plan.graph import Shape, shape_of, shape_of_port
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.routing import KeyByNode, SplitNode, UnionNode
from thalweg.streams.plan.sink import SinkNode, SubscribeNode
from thalweg.streams.plan.stateless import FilterNode, FlatMapNode, MapNode, SelectNode, WithColumnsNode
from thalweg.streams.process.stream import Processing
from thalweg.streams.service.stream import Calling
from thalweg.streams.windowed import WindowedStream, Windowing

__all__ = ["DataStream", "Extension", "WindowedStream"]
from thalweg.streams.tables import TableMaking

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction
    from thalweg.formats import Format
    from thalweg.streams.app import App

Fn = Any
"""An expression, a lambda over an event, or any callable that takes one."""


class Extension(Protocol):
    """What `detect`, `alert` and their like take: something that knows how to become a plan node."""

    def to_node(self, upstream: Node, key_columns: tuple[str, ...]) -> Node:
        """The node that reads `upstream` (its main port), whose rows are keyed by `key_columns` (maybe none)."""


class DataStream(Windowing, Joining, Grouping, Changelogs, Processing, Calling, CorrelatingStream, TableMaking):
    """A stream of events. Immutable: every method appends a step to the plan and returns a new stream.

    `DataStream("topic", …)` reads a topic in the default app; `App.stream` reads one in an app of its own. Both take
    the same settings (see `App.stream`).
    """

    def __init__(self, topic: str, *, app: App | None = None, **settings: Any) -> None:
        from thalweg.streams.app import default_app

        self._app = app or default_app()
        self._node = self._app._source(topic, **settings)
        self._port = MAIN
        self._resolve(())

    _app: App
    _node: Node
    _port: str
    _inputs: tuple[DataStream, ...]
    _shape: Shape

    @classmethod
    def _of(cls, app: App, node: Node, inputs: tuple[DataStream, ...], port: str = MAIN) -> DataStream:
        stream = cls.__new__(cls)
        stream._app, stream._node, stream._port = app, node, port
        stream._resolve(inputs)
        return stream

    def _resolve(self, inputs: tuple[DataStream, ...]) -> None:
        """Finds schema, keys and mode now, so that a mistake shows in the user's own line."""
        self._inputs = inputs
        shapes = [stream._shape for stream in inputs]
        self._shape = shape_of_port(self._node, self._port, shape_of(self._node, shapes), shapes)

    def _append(self, node_type: type[Node], *args: Any, **fields: Any) -> DataStream:
        node = node_type(*args, inputs=(self._node,), input_ports=(self._port,), **fields)
        return self._add(node, (self,))

    def _add(self, node: Node, inputs: tuple[DataStream, ...]) -> DataStream:
        stream = DataStream._of(self._app, node, inputs)
        self._app._register(node)
        return stream

    @property
    def app(self) -> App:
        """The app whose plan this stream is part of."""
        return self._app

    @property
    def node(self) -> Node:
        """The plan node that this stream comes out of."""
        return self._node

    @property
    def schema(self) -> pl.Schema | None:
        """The user's columns, where they are known before data comes."""
        return self._shape.schema

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns by which the stream is keyed."""
        return self._shape.keys

    @property
    def mode(self) -> Mode:
        """Whether the rows append or change."""
        return self._shape.mode

    # -- one row at a time

    def filter(self, predicate: Fn) -> DataStream:
        """Keeps the events for which `predicate` is true; null counts as false.

        On a changelog it keeps rows as they are now: one that turns from true to false is taken back.
        """
        compiled = self._compile(predicate, "predicate", "filter")
        return self._filter_changes(compiled) if self.mode is Mode.CHANGELOG else self._append(FilterNode, compiled)

    def map(self, function: Fn, *, schema: Mapping[str, Any] | None = None) -> DataStream:
        """Makes a new event of each event.

        Args:
            function: returns a dict (or dataclass, or Row) with the new event's fields.
            schema: the columns of what a per-row function returns; without it they are learned from the first events.
        """
        compiled = self._compile(function, "row", "map")
        if compiled.vectorised and not isinstance(compiled.exprs, dict):
            raise ConfigurationError("map makes records: give a function or a dict of expressions, or use .select(…)")
        return self._append(MapNode, compiled, _schema_of(schema))

    def flat_map(self, function: Fn, *, schema: Mapping[str, Any] | None = None) -> DataStream:
        """Makes any number of events of each event.

        Args:
            function: returns a list of records; or an expression (or column name) of a list column, whose items become
                rows, with the fields of a struct as columns.
            schema: as in `map`.
        """
        function = pl.col(function) if isinstance(function, str) else function
        return self._append(FlatMapNode, self._compile(function, "rows", "flat_map"), _schema_of(schema))

    def select(self, *columns: Fn, **named: Fn) -> DataStream:
        """Keeps the given columns, or makes them by expressions, and drops the others."""
        return self._append(SelectNode, self._columns(columns, named, "select"))

    def with_columns(self, *columns: Fn, **named: Fn) -> DataStream:
        """Adds columns, or replaces those of the same name."""
        return self._append(WithColumnsNode, self._columns(columns, named, "with_columns"))

    # -- keys; windows: see `Windowing`

    def key_by(self, *columns: Fn, **named: Fn) -> DataStream:
        """Keys the stream by columns, expressions or lambdas; null is a key like any other.

        An unnamed expression that is not a plain column becomes the column `key` (`key_1` … where there are several).
        """
        if not columns and not named:
            raise ConfigurationError("key_by needs at least one column")
        names: list[str] = []
        computed: dict[str, CompiledFunction] = {}
        for number, column in enumerate(columns):
            name, function = self._key(column, "key" if len(columns) == 1 else f"key_{number + 1}")
            names.append(name)
            if function is not None:
                computed[name] = function
        for name, column in named.items():
            names.append(name)
            computed[name] = self._compile(_as_expression(column), "value", "key_by")
        if len(set(names)) < len(names):
            raise PlanError(f"key_by: a name comes twice in {', '.join(names)}")
        return self._append(KeyByNode, tuple(names), computed)

    def _key(self, column: Fn, default: str) -> tuple[str, CompiledFunction | None]:
        if isinstance(column, str):
            check_columns([column], self.schema, "key_by")
            return column, None
        compiled = self._compile(column, "value", "key_by")
        for expression in expressions_of(compiled):
            if expression.meta.is_column():
                return expression.meta.output_name(), None
            if not expression.meta.undo_aliases().meta.eq(expression):
                return expression.meta.output_name(), compiled
        return default, compiled

    # -- several streams

    def union(self, *others: DataStream) -> DataStream:
        """All events of these streams together; the watermark is the least of theirs."""
        streams = (self, *others)
        self._same_app(others, "union")
        node = UnionNode(inputs=tuple(s._node for s in streams), input_ports=tuple(s._port for s in streams))
        return self._add(node, streams)

    def split(self, branches: Mapping[str, Fn]) -> dict[str, DataStream]:
        """Sends each event to the first branch whose predicate is true; events without one are dropped.

        Returns:
            One stream per branch, by name.
        """
        if not branches:
            raise ConfigurationError("split needs at least one branch")
        bad = [name for name in branches if name in {MAIN, LATE, "dead"}]
        if bad:
            raise ConfigurationError(f"split: {bad[0]!r} is the name of a port of its own; call the branch differently")
        compiled = {name: self._compile(fn, "predicate", f"split {name!r}") for name, fn in branches.items()}
        stream = self._append(SplitNode, compiled)
        return {name: stream.port(name) for name in branches}

    def port(self, name: str) -> DataStream:
        """Another output of the step that this stream comes out of, such as "late" or "timeout"."""
        return DataStream._of(self._app, self._node, self._inputs, name)

    @property
    def late(self) -> DataStream:
        """The events that came too late for this step: as they were when they reached it."""
        return self.port(LATE)

    # -- steps of other packages

    def extend(self, extension: Extension) -> DataStream:
        """Appends a step that another package defines (see `Extension`)."""
        if not hasattr(extension, "to_node"):
            raise ConfigurationError(
                f"a {type(extension).__name__} can't be a step of a stream: it has no to_node(upstream, key_columns)"
            )
        if self._port != MAIN:
            return self.select_port().extend(extension)
        return self._add(extension.to_node(self._node, self.key_columns), (self,))

    def select_port(self) -> DataStream:
        """This stream as the main output of a step of its own (which changes nothing)."""
        return self._append(WithColumnsNode, {})

    detect = extend
    alert = extend
    track = extend
    apply_rules = extend
    enrich = extend

    # -- ends

    def to(
        self,
        topic: str,
        *,
        format: str | Format = "json",
        key: str | None = None,
        changes: bool | Literal["upsert"] = False,
        partitions: int | None = None,
        uid: str | None = None,
    ) -> DataStream:
        """Writes every row to a topic; the record's time is the row's event time.

        Args:
            topic: made at start where it is missing.
            format: "json", "arrow", "raw", or a schema registry's ("avro", "protobuf", an `AvroFormat` …).
            key: the column whose text is the record key and chooses the partition; without it the key column of the
                stream, where it has exactly one.
            changes: accept a changelog: its `__op` (insert, update, delete) is written as a field of that name. With
                "upsert" rows are written as they are now, and a delete is a record with its key and no value, as
                compacted topics and `App.table` take it; the stream must be keyed by the one column that is the key.
            partitions: how many partitions a new topic gets; the broker's default where not given.

        Returns:
            The same stream, so that it can have more than one end.
        """
        if key is not None:
            check_columns([key], self.schema, f"to {topic!r}")
        if changes not in (True, False, "upsert"):
            raise ConfigurationError(f"to {topic!r}: changes is {changes!r}; use True, False or 'upsert'")
        upsert = changes == "upsert"
        if upsert:
            self._check_upsert(topic, key)
        fields = {"format": format, "key": key, "changes": bool(changes), "upsert": upsert, "partitions": partitions}
        self._append(SinkNode, uid=uid, topic=topic, **fields)
        return self

    def _check_upsert(self, topic: str, key: str | None) -> None:
        """Refuses a record key that does not tell the rows apart: one would replace another."""
        keys = self.key_columns
        if (len(keys) != 1 and key is None) or (self.mode is Mode.CHANGELOG and key is not None and keys != (key,)):
            by = ", ".join(keys) or "nothing"
            raise PlanError(f"to {topic!r}: changes='upsert' needs one key column; the stream is keyed by {by}")

    def subscribe(
        self, function: Callable[[Any], object], *, on_error: str = "stop", uid: str | None = None
    ) -> DataStream:
        """Calls `function(row)` for every row, on the engine's thread, before the row's epoch is committed.

        After a crash rows since the last commit come again: at least once. An exception stops the job;
        `on_error="dead-letter"` makes a dead letter of the row instead.
        """
        return self._subscribe(function, False, on_error, uid)

    def subscribe_batches(
        self, function: Callable[[pl.DataFrame], object], *, on_error: str = "stop", uid: str | None = None
    ) -> DataStream:
        """Like `subscribe`, with a Polars frame of whatever rows came together."""
        return self._subscribe(function, True, on_error, uid)

    def _subscribe(self, function: Any, frames: bool, on_error: str, uid: str | None) -> DataStream:
        if not callable(function):
            raise ConfigurationError(f"subscribe takes a function, not a {type(function).__name__}")
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("subscribe takes a plain function: an async one would never be awaited")
        if on_error not in {"stop", "dead-letter"}:
            raise ConfigurationError(f"on_error is {on_error!r}; use 'stop' or 'dead-letter'")
        self._append(SubscribeNode, function=function, frames=frames, on_error=on_error, uid=uid)
        return self

    def uid(self, name: str) -> DataStream:
        """Gives this stream's last step a stable id, by which its state is found again when the program has changed."""
        if not name:
            raise ConfigurationError("uid needs a name")
        node = replace(self._node, uid=name)
        self._app._replace(self._node, node)
        return DataStream._of(self._app, node, self._inputs, self._port)

    def explain(self) -> str:
        """The plan that leads to this stream, and how each step runs."""
        from thalweg.streams.plan.explain import explain
        from thalweg.streams.plan.graph import resolve

        return explain(resolve([self._node]))

    def run(self, **settings: Any) -> None:
        """Runs the app of this stream (see `App.run`)."""
        self._app.run(**settings)

    # -- helpers

    def _compile(self, function: Fn, purpose: Any, where: str) -> CompiledFunction:
        return compile_for(function, purpose, self.schema, where)

    def _columns(self, columns: Iterable[Fn], named: Mapping[str, Fn], where: str) -> dict[str, CompiledFunction]:
        result: dict[str, CompiledFunction] = {}
        for column in columns:
            compiled = self._compile(_as_expression(column), "value", where)
            exprs = expressions_of(compiled)
            if not exprs:
                raise ConfigurationError(f"{where}: name the result of a function: {where}(name=function)")
            result[exprs[0].meta.output_name()] = compiled
        for name, column in named.items():
            result[name] = self._compile(_as_expression(column), "value", where)
        if not result:
            raise ConfigurationError(f"{where} needs at least one column")
        return result

    def _same_app(self, others: Iterable[DataStream], where: str) -> None:
        if any(other._app is not self._app for other in others):
            raise PlanError(f"{where}: the streams belong to different apps")

    def __repr__(self) -> str:
        return f"<DataStream {self._node.describe()}{'' if self._port == MAIN else f' port {self._port}'}>"


def _as_expression(column: Fn) -> Fn:
    return pl.col(column) if isinstance(column, str) else column


def _schema_of(schema: Mapping[str, Any] | None) -> pl.Schema | None:
    if schema is None:
        return None
    from thalweg.schema import to_schema

    return to_schema(schema).schema
