"""How streams are correlated: the part of `DataStream` and `App` that takes a correlator of another package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from thalweg.streams.app import App
    from thalweg.streams.plan.source import SourceNode
    from thalweg.streams.stream import DataStream


class Correlator(Protocol):
    """What `correlate` takes: see `thalweg.cep.EventCorrelator`."""

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of its streams."""

    def over(self, streams: Mapping[str, DataStream]) -> DataStream:
        """The correlations of several streams."""

    def of_one(self, stream: DataStream) -> DataStream:
        """The correlations of the parts of one stream."""


class CorrelatingStream:
    """What `DataStream` can do with a correlator."""

    def correlate(self, correlator: Correlator) -> DataStream:
        """Correlates the parts of this stream that the correlator's conditions name."""
        return correlator.of_one(cast("DataStream", self))


class CorrelatingApp:
    """What `App` can do with a correlator."""

    _sources: dict[str, tuple[SourceNode, dict[str, object]]]

    def correlate(self, correlator: Correlator, streams: Mapping[str, DataStream] | None = None) -> DataStream:
        """Correlates several streams.

        Args:
            streams: under the names that the correlator has for them. One that is not given is the stream of the topic
                of that name, which the app reads already.
        """
        from thalweg.streams.stream import DataStream

        app = cast("App", self)
        sources = {topic: DataStream._of(app, node, ()) for topic, (node, _) in self._sources.items()}
        return correlator.over({**sources, **(streams or {})})
