"""`SchemaRegistryClient`: the REST API of Confluent's schema registry, which others speak as well."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from thalweg.kafka.schema_registry.errors import SchemaRegistryError, UnknownSchemaError
from thalweg.kafka.schema_registry.schema import Compatibility, Reference, RegisteredSchema, Schema, SchemaType
from thalweg.kafka.schema_registry.transport import RegistryAccess, Transport, access_from_environment, as_urls

if TYPE_CHECKING:
    from thalweg.formats.avro.schema import AvroType

_REMEMBER_UNKNOWN = 10.0
"""Seconds for which an unknown id is not asked for again: damaged records must not become a flood of requests."""


@dataclass(frozen=True, slots=True)
class CompatibilityCheck:
    """Whether a schema could be the next version of a subject; `reasons` say why not."""

    compatible: bool
    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.compatible


class SchemaRegistryClient:
    """Schemas by subject and by id. Safe to use from several threads; ids are asked for once and kept.

    Args:
        urls: `http://host:8081`, or several (tried in turn where one does not answer), or all of it.
            None: as the environment says (`THALWEG_SCHEMA_REGISTRY_URL` …).
        basic_auth, bearer_token, ca, certificate, key, verify, timeout, retries: see `RegistryAccess`.

    Raises:
        ConfigurationError: not such an address, or none.

    >>> registry = SchemaRegistryClient("http://localhost:8081")                         # doctest: +SKIP
    >>> registry.register("orders-value", '{"type": "record", "name": "Order", "fields": []}')  # doctest: +SKIP
    1
    """

    def __init__(
        self,
        urls: str | Sequence[str] | RegistryAccess | None = None,
        *,
        basic_auth: tuple[str, str] | None = None,
        bearer_token: Any = None,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        verify: bool = True,
        timeout: float = 10.0,
        retries: int = 3,
    ) -> None:
        if isinstance(urls, RegistryAccess):
            access = urls
        elif urls is None:
            access = access_from_environment()
        else:
            access = RegistryAccess(
                as_urls(urls), basic_auth, bearer_token, ca, certificate, key, verify, timeout, retries
            )
        self._transport = Transport(access)
        self._lock = threading.Lock()
        self._by_id: dict[int, Schema] = {}
        self._by_version: dict[tuple[str, int], RegisteredSchema] = {}
        self._ids: dict[tuple[str, Schema], int] = {}
        self._unknown: dict[int, tuple[float, str]] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        return self._transport.access.urls

    # -- schemas by id

    def schema(self, schema_id: int) -> Schema:
        """The schema that a record names.

        Raises:
            UnknownSchemaError: the registry has none of this id.
            RegistryUnavailableError: it was not read before, and the registry does not answer.
        """
        with self._lock:
            if schema_id in self._by_id:
                return self._by_id[schema_id]
            asked_at, message = self._unknown.get(schema_id, (float("-inf"), ""))
        if time.monotonic() - asked_at < _REMEMBER_UNKNOWN:
            raise UnknownSchemaError(message, 404, 40403)
        try:
            found = Schema.of(self._transport.ask("GET", f"/schemas/ids/{schema_id}"))
        except UnknownSchemaError as error:
            with self._lock:
                self._unknown[schema_id] = time.monotonic(), str(error)
            raise
        with self._lock:
            self._by_id[schema_id] = found
        return found

    def subjects_of(self, schema_id: int) -> list[tuple[str, int]]:
        """The subjects and versions that have this schema."""
        found = self._transport.ask("GET", f"/schemas/ids/{schema_id}/versions")
        return [(each["subject"], int(each["version"])) for each in found]

    # -- subjects

    def subjects(self) -> list[str]:
        """The names of all subjects."""
        return sorted(self._transport.ask("GET", "/subjects"))

    def versions(self, subject: str) -> list[int]:
        """The versions of a subject.

        Raises:
            UnknownSchemaError: no such subject.
        """
        return sorted(int(number) for number in self._transport.ask("GET", f"/subjects/{_part(subject)}/versions"))

    def version(self, subject: str, version: int | str = "latest") -> RegisteredSchema:
        """One version of a subject. Numbered ones are kept; the latest is asked for each time.

        Raises:
            UnknownSchemaError: no such subject or version.
        """
        if isinstance(version, int) and (subject, version) in self._by_version:
            return self._by_version[subject, version]
        found = self._transport.ask("GET", f"/subjects/{_part(subject)}/versions/{version}")
        made = RegisteredSchema(subject, int(found["version"]), int(found["id"]), Schema.of(found))
        self._keep(made)
        return made

    def latest(self, subject: str) -> RegisteredSchema:
        """The newest version of a subject."""
        return self.version(subject)

    def register(
        self,
        subject: str,
        schema: str | dict[str, Any] | list[Any] | Schema,
        *,
        type: SchemaType | str = SchemaType.AVRO,
        references: Sequence[Reference] = (),
        normalize: bool = False,
    ) -> int:
        """Registers a schema as the subject's next version, where it is not one of its versions already; its id.

        Raises:
            IncompatibleSchemaError: the subject's compatibility level does not allow it; says why.
            SchemaRegistryError: not a valid schema.
        """
        wanted = as_schema(schema, type, references)
        known = self._ids.get((subject, wanted))
        if known is not None:
            return known
        query = {"normalize": "true"} if normalize else {}
        answer = self._transport.ask("POST", f"/subjects/{_part(subject)}/versions", wanted.to_json(), query)
        number = int(answer["id"])
        with self._lock:
            self._ids[subject, wanted] = number
            self._by_id.setdefault(number, wanted)
            self._unknown.pop(number, None)
        return number

    def lookup(
        self,
        subject: str,
        schema: str | dict[str, Any] | list[Any] | Schema,
        *,
        type: SchemaType | str = SchemaType.AVRO,
        references: Sequence[Reference] = (),
    ) -> RegisteredSchema:
        """Which version of a subject a schema is; registers nothing.

        Raises:
            UnknownSchemaError: none of them, or no such subject.
        """
        wanted = as_schema(schema, type, references)
        found = self._transport.ask("POST", f"/subjects/{_part(subject)}", wanted.to_json())
        made = RegisteredSchema(subject, int(found["version"]), int(found["id"]), wanted)
        self._keep(made)
        return made

    def delete_subject(self, subject: str, *, permanent: bool = False) -> list[int]:
        """Deletes a subject; softly (its ids stay readable), or with `permanent` for good after a soft delete."""
        query = {"permanent": "true"} if permanent else {}
        answer = self._transport.ask("DELETE", f"/subjects/{_part(subject)}", query=query)
        with self._lock:
            for key in [key for key in self._by_version if key[0] == subject]:
                del self._by_version[key]
            for known in [known for known in self._ids if known[0] == subject]:
                del self._ids[known]
        return [int(number) for number in answer or ()]

    # -- compatibility

    def compatibility(self, subject: str | None = None) -> Compatibility:
        """The level of a subject, or (without one) of all that have none of their own."""
        if subject is not None:
            try:
                return _level(self._transport.ask("GET", f"/config/{_part(subject)}"))
            except UnknownSchemaError:
                pass  # the subject has no level of its own
        return _level(self._transport.ask("GET", "/config"))

    def set_compatibility(self, level: Compatibility | str, subject: str | None = None) -> None:
        """Sets the level of a subject, or (without one) of all that have none of their own."""
        path = "/config" if subject is None else f"/config/{_part(subject)}"
        self._transport.ask("PUT", path, {"compatibility": str(Compatibility(level))})

    def check(
        self,
        subject: str,
        schema: str | dict[str, Any] | list[Any] | Schema,
        *,
        type: SchemaType | str = SchemaType.AVRO,
        references: Sequence[Reference] = (),
        version: int | str = "latest",
    ) -> CompatibilityCheck:
        """Whether a schema could be registered, by the subject's level; a subject without versions takes any."""
        wanted = as_schema(schema, type, references)
        path = f"/compatibility/subjects/{_part(subject)}/versions/{version}"
        try:
            answer = self._transport.ask("POST", path, wanted.to_json(), {"verbose": "true"})
        except UnknownSchemaError:
            return CompatibilityCheck(True)
        return CompatibilityCheck(bool(answer["is_compatible"]), tuple(map(str, answer.get("messages") or ())))

    # -- references

    def resolve(self, schema: Schema) -> list[RegisteredSchema]:
        """Everything that a schema refers to, deepest first, each once."""
        found: dict[tuple[str, int], RegisteredSchema] = {}
        self._resolve(schema, found)
        return list(found.values())

    def named_references(self, schema: Schema) -> dict[str, str]:
        """The text of everything that a schema refers to, by the name that it is referred to by."""
        parts = self.resolve(schema)
        names = {r.subject: r.name for each in (schema, *(part.schema for part in parts)) for r in each.references}
        return {names[part.subject]: part.schema.text for part in parts}

    def _resolve(self, schema: Schema, found: dict[tuple[str, int], RegisteredSchema]) -> None:
        for reference in schema.references:
            place = reference.subject, reference.version
            if place not in found:
                known = self.version(*place)
                self._resolve(known.schema, found)
                found[place] = known

    def avro(self, schema: Schema) -> AvroType:
        """An Avro schema, parsed, with what it refers to.

        Raises:
            SchemaRegistryError: the schema is of another language.
            AvroSchemaError: it is not valid.
        """
        from thalweg.formats.avro.schema import named_types, parse

        if schema.type is not SchemaType.AVRO:
            raise SchemaRegistryError(f"the schema is {schema.type}, not Avro; read it with the format of that name")
        known: dict[str, AvroType] = {}
        for part in self.resolve(schema):
            known |= named_types(parse(part.schema.text, known))
        return parse(schema.text, known)

    # -- life

    def _keep(self, found: RegisteredSchema) -> None:
        with self._lock:
            self._by_id.setdefault(found.id, found.schema)
            self._by_version[found.subject, found.version] = found

    def close(self) -> None:
        """Closes the connections; cached schemas stay."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SchemaRegistryClient({', '.join(self.urls)})"


def as_schema(
    given: str | dict[str, Any] | list[Any] | Schema,
    type: SchemaType | str = SchemaType.AVRO,
    references: Sequence[Reference] = (),
) -> Schema:
    """A schema from text or data."""
    if isinstance(given, Schema):
        return given
    text = given if isinstance(given, str) else json.dumps(given)
    return Schema(text, SchemaType(type), tuple(references))


def _part(name: str) -> str:
    return quote(name, safe="")


def _level(answer: dict[str, Any]) -> Compatibility:
    return Compatibility(answer.get("compatibilityLevel") or answer["compatibility"])
