"""What a registry holds: schemas, their references, and the rules for the next version."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class SchemaType(StrEnum):
    """The registry's names of the three languages."""

    AVRO = "AVRO"
    JSON = "JSON"
    PROTOBUF = "PROTOBUF"


class Compatibility(StrEnum):
    """What a new version of a subject must be able to do.

    Backward: read what the last version wrote; forward: be read by it; full: both; transitive: of all versions.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Reference:
    """Another subject's schema that this one uses: `name` is how its text says so (a type's name, or a file)."""

    name: str
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as text.

    >>> Schema('"long"').type
    <SchemaType.AVRO: 'AVRO'>
    """

    text: str
    type: SchemaType = SchemaType.AVRO
    references: tuple[Reference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The body of a request."""
        body: dict[str, Any] = {"schema": self.text}
        if self.type is not SchemaType.AVRO:  # some registries don't know the field's default
            body["schemaType"] = str(self.type)
        if self.references:
            body["references"] = [{"name": r.name, "subject": r.subject, "version": r.version} for r in self.references]
        return body

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Schema:
        """The schema in an answer."""
        references = tuple(
            Reference(r["name"], r["subject"], int(r["version"])) for r in answer.get("references") or ()
        )
        return cls(answer["schema"], SchemaType(answer.get("schemaType") or "AVRO"), references)


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A version of a subject."""

    subject: str
    version: int
    id: int
    schema: Schema
