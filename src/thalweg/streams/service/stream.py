"""What `DataStream` has for calls to services."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.service.node import MapAsyncNode

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Calling:
    """Mixin of `DataStream`: `map_async`."""

    if TYPE_CHECKING:

        def _append(self, node_type: type[MapAsyncNode], *args: Any, **fields: Any) -> DataStream: ...

        @property
        def key_columns(self) -> tuple[str, ...]: ...

    def map_async(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        *,
        concurrency: int = 16,
        ordered: bool = True,
        timeout: Duration | None = "10s",
        schema: Mapping[str, Any] | None = None,
        on_error: str = "dead-letter",
        uid: str | None = None,
    ) -> DataStream:
        """Makes a new event of each event by an async function: a call to a service, so many at a time.

        The engine goes on meanwhile; when too many events wait for their result, sources are not read until fewer do.
        Results come out exactly once also after a crash; calls whose result was not committed are made again.

        Args:
            function: `async def function(event)` gives a record (which gets the key columns), or None for nothing. All
                its calls run on one event loop of the step's own.
            concurrency: how many calls are under way at most.
            ordered: results in the order of the events; False: as they end.
            timeout: how long a call may take before it counts as failed (`TimeoutError`); None: no bound.
            schema: the columns of the results besides the key; without it they are learned from the first ones.
            on_error: "dead-letter": an event whose call raises becomes a dead letter; "stop": the job stops.
            uid: the stable id by which the events under way are found again.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> async def price(event):
        ...     return {"item": event.item, "price": 2.5}
        >>> driver = TestDriver(App("shop").stream("orders", timestamp="at").map_async(price))
        >>> driver.send([{"at": 1, "item": "tea"}])
        >>> driver.output().to_dicts()
        [{'item': 'tea', 'price': 2.5}]
        """
        if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
        ):
            raise ConfigurationError("map_async takes an async function; for a plain one use map")
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is {concurrency}; it must be at least 1")
        if on_error not in {"dead-letter", "stop"}:
            raise ConfigurationError(f"on_error is {on_error!r}; use 'dead-letter' or 'stop'")
        return self._append(
            MapAsyncNode,
            function=function,
            concurrency=concurrency,
            ordered=ordered,
            timeout=None if timeout is None else milliseconds(timeout, name="timeout", minimum=1),
            schema=_schema(schema, self.key_columns),
            keys=self.key_columns,
            on_error=on_error,
            uid=uid,
        )


def _schema(columns: Mapping[str, Any] | None, keys: tuple[str, ...]) -> pl.Schema | None:
    if columns is None:
        return None
    from thalweg.schema import to_schema

    return pl.Schema({name: dtype for name, dtype in to_schema(columns).schema.items() if name not in keys})
