"""Log directories (KIP-113) and quotas (KIP-546), asked over a connection of our own."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from thalweg.errors import ConnectorError
from thalweg.kafka._wire import Connection, Reader, array, text

_LOG_DIRS, _QUOTAS, _ALTER_QUOTAS = (35, 1), (48, 0), (49, 0)
_ALL = struct.pack(">i", -1)
_EVERY_NAME = 2
_ENTITIES = ("user", "client-id", "ip")

Sizes = dict[tuple[str, int], int]
Entity = dict[str, str | None]


def describe_log_dirs(connection: Connection) -> list[tuple[str, Sizes]]:
    """Every folder of the broker with the bytes of each partition in it.

    Raises:
        ConnectorError: the broker refuses.
    """
    answer = connection.ask(_LOG_DIRS, _ALL)
    answer.number("i")  # throttled for so long
    return answer.array(lambda: _log_dir(answer))


def _log_dir(answer: Reader) -> tuple[str, Sizes]:
    code, path = answer.number("h"), answer.text() or ""
    sizes: Sizes = {}

    def partition(topic: str) -> None:
        index, size = answer.number("i"), answer.number("q")
        answer.number("q")  # offsets behind, of a replica that is being moved here
        future = answer.number("b")
        sizes[topic, index] = sizes.get((topic, index), 0) + (0 if future else size)

    def topic() -> None:
        name = answer.text() or ""
        answer.array(lambda: partition(name))

    answer.array(topic)
    if code:
        raise ConnectorError(f"the broker can't tell about {path or 'its log directories'}: Kafka's error {code}")
    return path, sizes


def describe_quotas(connection: Connection) -> list[tuple[Entity, dict[str, float]]]:
    """Every entity that has limits.

    Raises:
        ConnectorError: the broker refuses.
    """
    found = []
    for entity in _ENTITIES:
        component = text(entity) + struct.pack(">b", _EVERY_NAME) + text(None)
        answer = connection.ask(_QUOTAS, array([component]) + struct.pack(">?", False))
        answer.number("i")
        _check(answer)
        found += answer.array(lambda answer=answer: _quota(answer))  # type: ignore[misc]
    return [entry for at, entry in enumerate(found) if entry not in found[:at]]


def alter_quotas(connection: Connection, entity: Mapping[str, str | None], limits: Mapping[str, float | None]) -> None:
    """Sets limits, or (None) takes them away.

    Raises:
        ConnectorError: the broker refuses.
    """
    operations = [text(key) + struct.pack(">d?", value or 0.0, value is None) for key, value in limits.items()]
    entry = array([text(kind) + text(name) for kind, name in entity.items()]) + array(operations)
    answer = connection.ask(_ALTER_QUOTAS, array([entry]) + struct.pack(">?", False))
    answer.number("i")
    answer.array(lambda: _altered(answer))


def _altered(answer: Reader) -> Entity:
    _check(answer)
    return _entity(answer)


def _quota(answer: Reader) -> tuple[Entity, dict[str, float]]:
    entity = _entity(answer)
    limits = dict(answer.array(lambda: (answer.text() or "", answer.double())))
    return entity, limits


def _entity(answer: Reader) -> Entity:
    return dict(answer.array(lambda: (answer.text() or "", answer.text())))


def _check(answer: Reader) -> None:
    code, said = answer.number("h"), answer.text()
    if code:
        raise ConnectorError(f"the broker refuses: {said or f'Kafka error {code}'}")
