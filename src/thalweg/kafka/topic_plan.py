"""Topics as they should be, in a file, and the difference to how they are."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg.durations import milliseconds
from thalweg.errors import ConfigurationError
from thalweg.yaml_text import parse_yaml

_FIELDS = frozenset({"name", "partitions", "replication", "config"})


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. None: as the cluster has it, or its default."""

    name: str
    partitions: int | None = None
    replication: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One difference: `action` is "create", "add partitions", "set", or "refuse" for what can't be done."""

    topic: str
    action: str
    detail: str
    spec: TopicSpec

    def __str__(self) -> str:
        sign = {"create": "+", "refuse": "!"}.get(self.action, "~")
        return f"{sign} {self.topic}: {self.detail}"


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What it takes to make the topics as they should be; empty when they are."""

    changes: tuple[TopicChange, ...]

    @property
    def refused(self) -> tuple[TopicChange, ...]:
        return tuple(change for change in self.changes if change.action == "refuse")

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "the topics are as they should be"


def load_topics(source: str | Path | Mapping[str, Any] | Iterable[TopicSpec]) -> list[TopicSpec]:
    """Topics from a .toml, .json or .yaml file, or from what such a file holds.

    ```toml
    [defaults]
    partitions = 12
    replication = 3
    [topics.events]
    config = { "retention.ms" = "7d", "compression.type" = "snappy" }
    [topics.audit]
    partitions = 3
    config = { "retention.ms" = "30d" }
    ```

    Settings that end in `.ms` take durations such as "7d"; -1 stays -1.

    Raises:
        ConfigurationError: not such a file; it says where.
        MissingExtraError: YAML without its library.
    """
    if isinstance(source, str | Path):
        return _specs(_read(Path(source)), str(source))
    if isinstance(source, Mapping):
        return _specs(source, "topics")
    return list(source)


def _read(path: Path) -> Any:
    try:
        text = path.read_text()
        if path.suffix == ".toml":
            return tomllib.loads(text)
        if path.suffix == ".json":
            return json.loads(text)
        if path.suffix in (".yaml", ".yml"):
            return parse_yaml(text, path, what="topics", extra="yaml")
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    raise ConfigurationError(f"{path}: topics come as .toml, .json or .yaml")


def _specs(found: Any, where: str) -> list[TopicSpec]:
    if not isinstance(found, Mapping) or "topics" not in found or set(found) - {"topics", "defaults"}:
        raise ConfigurationError(f"{where}: needs `topics`, and may have `defaults`")
    defaults = _fields(found.get("defaults") or {}, f"{where}: defaults")
    topics = found["topics"]
    if isinstance(topics, Mapping):
        topics = [{"name": name, **(fields or {})} for name, fields in topics.items()]
    specs = [_spec(_fields(topic, f"{where}: topics"), defaults, where) for topic in topics]
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{where}: {', '.join(twice)} is there twice")
    return specs


def _fields(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping) or (unknown := set(found) - _FIELDS):
        wrong = ", ".join(map(str, unknown)) if isinstance(found, Mapping) else repr(found)
        raise ConfigurationError(f"{where}: {wrong}: a topic has {', '.join(sorted(_FIELDS))}")
    return found


def _spec(found: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> TopicSpec:
    name = found.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}: a topic without a name")
    numbers = {}
    for key in ("partitions", "replication"):
        value = found.get(key, defaults.get(key))
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigurationError(f"{where}: {key} of {name!r} is {value!r}")
        numbers[key] = value
    config = {**(defaults.get("config") or {}), **(found.get("config") or {})}
    return TopicSpec(name, **numbers, config={key: _value(key, value) for key, value in config.items()})


def _value(name: str, value: Any) -> str:
    """
    >>> _value("retention.ms", "7d"), _value("retention.ms", -1), _value("preallocate", True)
    ('604800000', '-1', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith(".ms") and isinstance(value, str) and not value.lstrip("-").isdigit():
        return str(milliseconds(value, name=name))
    return str(value)
