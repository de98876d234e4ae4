"""What each schema id means to one reader: asked for once, refused with a reason, or waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from thalweg.durations import milliseconds
from thalweg.formats.avro.schema import AvroSchemaError
from thalweg.formats.errors import ErrorClass
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.kafka.schema_registry.errors import RegistryUnavailableError, SchemaRegistryError, UnknownSchemaError
from thalweg.kafka.schema_registry.framing import Refusal
from thalweg.kafka.schema_registry.schema import Schema

T = TypeVar("T")
_ASK_AGAIN = 10.0
"""Seconds for which a registry that was given up is left alone."""


class Resolver(Generic[T]):
    """Schemas by id, made ready for one reader.

    Args:
        format: its registry, and for how long an answer is waited for.
        make: makes one ready; may raise `SchemaRegistryError` or `AvroSchemaError`: its records can't be read.
    """

    def __init__(self, format: RegistryFormat, make: Callable[[Schema], T]) -> None:
        self._client = format.client
        self._make = make
        self._wait = None if format.wait is None else milliseconds(format.wait, name="wait", minimum=0) / 1000
        self._known: dict[int, T | Refusal] = {}
        self._down_since: float | None = None
        self._given_up: tuple[float, str] = (float("-inf"), "")

    def __call__(self, schema_id: int) -> T | Refusal:
        """A schema made ready, or why its records can't be read.

        Raises:
            RegistryUnavailableError: it was not read before, and the registry does not answer: later, perhaps.
        """
        known = self._known.get(schema_id)
        if known is not None:
            return known
        asked_at, text = self._given_up
        if time.monotonic() - asked_at < _ASK_AGAIN:
            return Refusal(ErrorClass.SCHEMA_UNAVAILABLE, f"schema id {schema_id}: {text}")
        found: T | Refusal
        try:
            found = self._make(self._client.schema(schema_id))
        except RegistryUnavailableError as error:
            return self._unavailable(schema_id, error)
        except UnknownSchemaError as error:  # not kept: it may be registered later
            self._down_since = None
            return Refusal(ErrorClass.UNKNOWN_SCHEMA, f"schema id {schema_id}: {error}")
        except (SchemaRegistryError, AvroSchemaError) as error:
            found = Refusal(ErrorClass.INCOMPATIBLE_SCHEMA, f"schema id {schema_id}: {error}")
        self._down_since = None
        self._known[schema_id] = found
        return found

    def _unavailable(self, schema_id: int, error: RegistryUnavailableError) -> Refusal:
        now = time.monotonic()
        self._down_since = now if self._down_since is None else self._down_since
        if self._wait is None or now - self._down_since < self._wait:
            raise error
        self._given_up = now, str(error)
        return Refusal(ErrorClass.SCHEMA_UNAVAILABLE, f"schema id {schema_id}: {error}")
