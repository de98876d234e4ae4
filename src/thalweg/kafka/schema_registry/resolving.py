"""What each schema id means to one reader: asked for once, refused with a reason, or waited for.

The registry is asked on a thread: one that takes the question and never answers must not hold the records of others.
"""

from __future__ import annotations

import threading
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
_WHILE_OTHERS_WAIT = 0.02
"""Seconds for which one waits that serves others, while it knows of questions that are slow."""
_AT_ONCE = 4
"""Questions under way."""


class _Question(Generic[T]):
    """A call on a thread of its own, which no program's end waits for."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self.began = time.monotonic()
        self.done = threading.Event()
        self._ask = ask
        self._answer: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="thalweg-schema-registry", daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer.append(self._ask())
        except BaseException as error:
            self._error = error
        self.done.set()

    def answer(self) -> T:
        """What the call gave, or raised."""
        if self._error is not None:
            raise self._error
        return self._answer[0]


class Resolver(Generic[T]):
    """Schemas by id, made ready for one reader.

    Args:
        format: its registry, and for how long an answer is waited for.
        make: makes one ready, one at a time, on another thread; may raise `SchemaRegistryError` or `AvroSchemaError`:
            its records can't be read.
        within: for how many seconds an answer is waited for; None: as long as the client's own settings allow.
    """

    def __init__(self, format: RegistryFormat, make: Callable[[Schema], T], within: Callable[[], float | None]) -> None:
        self._client = format.client
        self._make = make
        self._within = within
        self._making = threading.Lock()
        self._wait = None if format.wait is None else milliseconds(format.wait, name="wait", minimum=0) / 1000
        self._known: dict[int, T | Refusal] = {}
        self._questions: dict[int, _Question[T]] = {}
        self._down_since: float | None = None
        self._given_up: tuple[float, str] = (float("-inf"), "")

    def __call__(self, schema_id: int) -> T | Refusal:
        """A schema made ready, or why its records can't be read.

        Raises:
            RegistryUnavailableError: it was not read before, and the registry does not answer, or not as soon as it
                should: later, perhaps.
        """
        known = self._known.get(schema_id)
        if known is not None:
            return known
        asked_at, text = self._given_up
        if time.monotonic() - asked_at < _ASK_AGAIN:
            return Refusal(ErrorClass.SCHEMA_UNAVAILABLE, f"schema id {schema_id}: {text}")
        try:
            found: T | Refusal = self._asked(schema_id)
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

    def _asked(self, schema_id: int) -> T:
        """The answer to the question for a schema, which is put where it was not yet.

        Raises:
            RegistryUnavailableError: there is none yet.
        """
        within = self._within()
        others = [each for number, each in self._questions.items() if number != schema_id and not each.done.is_set()]
        question = self._questions.get(schema_id)
        if question is None:
            if within is not None and len(others) >= _AT_ONCE:
                raise self._silent(others[0])
            # Of questions that were answered and not asked again (their partitions are read by others) none is kept.
            self._questions = {number: each for number, each in self._questions.items() if not each.done.is_set()}
            question = self._questions[schema_id] = _Question(lambda: self._ask(schema_id))
            question.done.wait(_WHILE_OTHERS_WAIT if within is not None and others else within)
        elif within is None:
            question.done.wait()
        if not question.done.is_set():
            raise self._silent(question)
        del self._questions[schema_id]
        return question.answer()

    def _ask(self, schema_id: int) -> T:
        schema = self._client.schema(schema_id)
        with self._making:
            return self._make(schema)

    def _silent(self, question: _Question[T]) -> RegistryUnavailableError:
        since = time.monotonic() - question.began
        where = ", ".join(self._client.urls)
        return RegistryUnavailableError(f"the schema registry at {where} does not answer, for {since:.1f} s by now")

    def _unavailable(self, schema_id: int, error: RegistryUnavailableError) -> Refusal:
        now = time.monotonic()
        self._down_since = now if self._down_since is None else self._down_since
        if self._wait is None or now - self._down_since < self._wait:
            raise error
        self._given_up = now, str(error)
        return Refusal(ErrorClass.SCHEMA_UNAVAILABLE, f"schema id {schema_id}: {error}")
