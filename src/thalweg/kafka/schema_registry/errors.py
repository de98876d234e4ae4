"""What a schema registry may answer instead of a schema."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.errors import ConnectorError, NotReady


class SchemaRegistryError(ConnectorError):
    """The registry refused a request. `status` is HTTP's, `code` the registry's own (such as 40403)."""

    def __init__(self, message: str, status: int = 0, code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnknownSchemaError(SchemaRegistryError):
    """There is no such subject, version or schema id."""


class IncompatibleSchemaError(SchemaRegistryError):
    """A schema that does not go with the earlier ones of its subject; `reasons` are the registry's."""

    def __init__(self, message: str, reasons: Sequence[str] = (), status: int = 409, code: int = 409) -> None:
        super().__init__(message, status, code)
        self.reasons = tuple(reasons)


class RegistryUnavailableError(SchemaRegistryError, NotReady):
    """The registry does not answer. What was asked for before goes on working from the cache."""
