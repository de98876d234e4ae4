"""Formats: how records in wire form become columns, and back.

>>> open_format("json").name
'json'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from thalweg.errors import ConfigurationError
from thalweg.formats.errors import ErrorClass
from thalweg.records import Decoder, Encoder

__all__ = ["ErrorClass", "Format", "open_format"]


class Format(Protocol):
    """A wire form."""

    name: str

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream.

        Args:
            schema: names and Polars types of the columns; None infers them and lets them evolve.
            columns: the only columns to make, which must be in the schema; None for all.
        """

    def encoder(self) -> Encoder:
        """An encoder; it keeps nothing between frames."""


_FORMATS = {
    "json": "thalweg.formats.json:JsonFormat",
    "arrow": "thalweg.formats.arrow:ArrowFormat",
    "raw": "thalweg.formats.raw:RawFormat",
    "text": "thalweg.formats.raw:TextFormat",
}


def open_format(name: str) -> Format:
    """The format of that name: "json", "arrow", "raw" (bytes) or "text".

    Other packages add formats through the entry point group `thalweg.formats`.

    Raises:
        ConfigurationError: no such format.
    """
    target = _FORMATS.get(name) or next(
        (point.value for point in entry_points(group="thalweg.formats") if point.name == name), None
    )
    if target is None:
        raise ConfigurationError(f"format {name!r}: use one of {', '.join(_FORMATS)}")
    module, _, attribute = target.partition(":")
    made: Format = getattr(import_module(module), attribute)()
    return made
