"""What `DataStream` has for keyed functions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.batch import MAIN
from thalweg.streams.process.declared import ProcessFunction, State, checked, states_of
from thalweg.streams.process.node import ProcessNode

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Processing:
    """Mixin of `DataStream`: `process` and `process_batches`."""

    if TYPE_CHECKING:

        def _append(self, node_type: type[ProcessNode], *args: Any, **fields: Any) -> DataStream: ...

        @property
        def key_columns(self) -> tuple[str, ...]: ...

    def process(
        self,
        function: Any,
        *,
        state: Mapping[str, State] | None = None,
        schema: Mapping[str, Any] | None = None,
        side_outputs: Mapping[str, Mapping[str, Any]] | None = None,
        on_error: str = "dead-letter",
        uid: str | None = None,
    ) -> DataStream:
        """Calls a function with every event, which keeps state and sets timers per key (see `ProcessFunction`).

        Args:
            function: a `ProcessFunction` (the class or an object), or `function(event, ctx)`; it gives a record,
                several, or nothing, and can `ctx.emit(record, port)`. Every record gets the key columns.
            state: for a plain function: the state that it finds as `ctx["name"]`.
            schema: the columns of the results besides the key; without it they are learned from the first ones.
            side_outputs: the same for other ports (`stream.port(name)`), by name.
            on_error: "dead-letter": an event whose call raises becomes a dead letter, and nothing else of the call
                remains; "stop": the job stops.
            uid: the stable id by which its state is found again, and queried.

        >>> from thalweg.streams import App, ProcessFunction, ValueState
        >>> class Changes(ProcessFunction):
        ...     last = ValueState(float)
        ...
        ...     def on_event(self, event, ctx):
        ...         before = self.last.get()
        ...         self.last.set(event.price)
        ...         if before is not None and event.price != before:
        ...             return {"change": event.price - before}
        >>> prices = App("changes").stream("prices", timestamp="at")
        >>> changes = prices.key_by("symbol").process(Changes)
        >>> from thalweg.streams.testing import TestDriver
        >>> driver = TestDriver(changes)
        >>> driver.send([{"at": n, "symbol": "x", "price": price} for n, price in enumerate([2.0, 2.0, 2.5])])
        >>> driver.output().to_dicts()
        [{'symbol': 'x', 'change': 0.5}]
        """
        return self._process(function, ProcessFunction, state, schema, side_outputs, on_error, uid, frames=False)

    def process_batches(
        self,
        function: Any,
        *,
        state: Mapping[str, State] | None = None,
        schema: Mapping[str, Any] | None = None,
        side_outputs: Mapping[str, Mapping[str, Any]] | None = None,
        on_error: str = "dead-letter",
        uid: str | None = None,
    ) -> DataStream:
        """Like `process`, with a frame of whatever events came together: `function(frame, ctx)` gives a frame.

        State is read and written as columns (see `BatchContext`). How events fall into batches is chance: the function
        has to give the same whatever it is. On an error all events of the frame are dead letters.

        Args:
            function: a `BatchFunction` (the class or an object), or `function(frame, ctx)`.
            state: for a plain function: the state that `ctx` reads and writes.
            schema: the columns of the results besides the key.
            side_outputs: the same for other ports, which it serves by giving a dict of frames.
            on_error: as in `process`.
            uid: as in `process`.
        """
        from thalweg.streams.process.batches import BatchFunction

        return self._process(function, BatchFunction, state, schema, side_outputs, on_error, uid, frames=True)

    def _process(
        self,
        function: Any,
        base: type,
        state: Mapping[str, State] | None,
        schema: Mapping[str, Any] | None,
        side_outputs: Mapping[str, Mapping[str, Any]] | None,
        on_error: str,
        uid: str | None,
        *,
        frames: bool,
    ) -> DataStream:
        made = function() if inspect.isclass(function) and issubclass(function, base) else function
        where = "process_batches" if frames else "process"
        if not isinstance(made, base) and (not callable(made) or inspect.isclass(made)):
            raise ConfigurationError(f"{where} takes a {base.__name__} or a function, not {function!r}")
        if inspect.iscoroutinefunction(getattr(made, "on_event", made)):
            raise ConfigurationError(f"{where} takes plain functions; for calls to services use map_async")
        if on_error not in {"dead-letter", "stop"}:
            raise ConfigurationError(f"on_error is {on_error!r}; use 'dead-letter' or 'stop'")
        if isinstance(made, base) and state is not None:
            raise ConfigurationError(f"{where}: declare state as attributes of {type(made).__name__}")
        states = checked(states_of(made) if isinstance(made, base) else state or {}, self.key_columns)
        given = {MAIN: schema, **(side_outputs or {})}
        schemas = {port: _schema(columns, self.key_columns) for port, columns in given.items() if columns is not None}
        return self._append(
            ProcessNode,
            function=made,
            states=states,
            keys=self.key_columns,
            schemas=schemas,
            frames=frames,
            on_error=on_error,
            uid=uid,
        )


def _schema(columns: Mapping[str, Any], keys: tuple[str, ...]) -> pl.Schema:
    from thalweg.schema import to_schema

    return pl.Schema({name: dtype for name, dtype in to_schema(columns).schema.items() if name not in keys})
