"""Sigma rules: detections as rules, correlation rules as correlations. Read with pySigma."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.cep.correlate.correlator import Count, EventCorrelator
from thalweg.cep.correlate.sigma_conditions import Detection, Fields
from thalweg.cep.rules.rule import Rule
from thalweg.errors import ConfigurationError, MissingExtraError, PlanError

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream

_PRIORITY = {"critical": 100, "high": 80, "medium": 60, "low": 40, "informational": 20}


@dataclass(frozen=True, slots=True)
class Sigma:
    """What a set of Sigma rules became.

    Attributes:
        rules: one for each detection, for a `RuleEngine`: its id is the Sigma rule's name (else its id, else its
            title), its priority comes from the level.
        correlators: one for each correlation rule, those that others read first. Their streams are the detections (or
            other correlations) that they refer to.
    """

    rules: tuple[Rule, ...]
    correlators: tuple[EventCorrelator, ...]

    def correlate(self, stream: DataStream) -> dict[str, DataStream]:
        """The correlations over one stream of events, by id; a correlation of correlations reads their results."""
        detections = {rule.id: rule.condition for rule in self.rules}
        found: dict[str, DataStream] = {}
        for correlator in self.correlators:
            parts = {n: found[n] if n in found else stream.filter(detections[n]) for n in correlator.streams}
            found[correlator.id] = correlator.over(parts)
        return found


def load_sigma(source: str | Path, *, fields: Fields | None = None) -> Sigma:
    """Reads Sigma rules: YAML text, a file, or a folder of `.yml` files.

    Correlation types `event_count`, `value_count`, `temporal` and `temporal_ordered`, with the conditions `gte` and
    `gt`. A correlation consumes its events (see `EventCorrelator`).

    Args:
        fields: what the rules' fields are called in the events, where not the same: a column, or an expression.

    Raises:
        ConfigurationError: what is wrong with which rule, or can't be said over columns.
        MissingExtraError: pySigma is not installed (`pip install 'thalweg[sigma]'`).

    >>> sigma = load_sigma(\"\"\"
    ... title: Failed login
    ... name: failed_login
    ... logsource: {product: windows}
    ... detection: {selection: {EventID: 4625}, condition: selection}
    ... \"\"\")
    >>> sigma.rules[0].id, sigma.rules[0].name
    ('failed_login', 'Failed login')
    """
    collection = _read(source)
    names = {id(rule): _name(rule) for rule in collection.rules}
    for rule in collection.rules:
        for error in rule.errors:
            raise ConfigurationError(f"Sigma rule {names[id(rule)]!r}: {error}")
    detections = [rule for rule in collection.rules if hasattr(rule, "detection")]
    correlations = [rule for rule in collection.rules if not hasattr(rule, "detection")]
    rules = [_rule(rule, names[id(rule)], fields or {}) for rule in detections]
    correlators = [_correlator(rule, names, fields or {}) for rule in correlations]
    _check(rules, correlators)
    return Sigma(tuple(rules), tuple(_in_order(correlators)))


def _read(source: str | Path) -> Any:
    try:
        import yaml
        from sigma.collection import SigmaCollection
        from sigma.exceptions import SigmaError
    except ImportError:
        raise MissingExtraError("Sigma rules need pySigma: pip install 'thalweg[sigma]'") from None
    try:
        return SigmaCollection.from_yaml("\n---\n".join(_texts(source)))
    except (SigmaError, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Sigma rules: {error}") from error


def _texts(source: str | Path) -> Iterator[str]:
    if isinstance(source, str) and "\n" in source:
        yield source
    elif Path(source).is_dir():
        for path in sorted(Path(source).glob("*.y*ml")):
            yield path.read_text(encoding="utf-8")
    else:
        yield Path(source).read_text(encoding="utf-8")


def _name(rule: Any) -> str:
    return str(rule.name or rule.id or re.sub(r"\W+", "_", rule.title.lower()).strip("_"))


def _rule(rule: Any, name: str, fields: Fields) -> Rule:
    if "timeframe" in rule.detection.detections:
        raise ConfigurationError(f"Sigma rule {name!r}: a timeframe has no meaning here; write a correlation rule")
    detection = Detection(name, fields)
    try:
        conditions = [detection.condition(condition.parsed) for condition in rule.detection.parsed_condition]
    except ConfigurationError:
        raise
    except ValueError as error:  # pySigma's errors are; conditions are read when they are asked for
        raise ConfigurationError(f"Sigma rule {name!r}: {error}") from error
    level = rule.level.name.lower() if rule.level is not None else "medium"
    return Rule(
        id=name,
        name=rule.title,
        condition=pl.any_horizontal(conditions) if len(conditions) > 1 else conditions[0],
        priority=_PRIORITY[level],
        tags=tuple(str(tag) for tag in rule.tags),
        description=rule.description or "",
    )


def _correlator(rule: Any, names: Mapping[int, str], fields: Fields) -> EventCorrelator:
    name = names[id(rule)]
    streams = [names[id(reference.rule)] for reference in rule.rules]
    kind = rule.type.name.lower() if rule.type is not None else ""
    counts = {"event_count": Count.EVENTS, "value_count": Count.VALUES}
    if kind not in (*counts, "temporal", "temporal_ordered"):
        raise ConfigurationError(f"Sigma rule {name!r}: correlation type {kind!r} is not supported")
    field = getattr(rule.condition, "fieldref", None) if kind == "value_count" else None
    if isinstance(field, list):
        if len(field) != 1:
            raise ConfigurationError(
                f"Sigma rule {name!r}: values of one field are counted, not of {len(field)} together"
            )
        field = field[0]
    return EventCorrelator(
        streams,
        _keys(rule, streams, fields),
        rule.timespan.seconds * 1_000,
        _minimum(rule, name, kind, len(streams)),
        count=counts.get(kind, Count.STREAMS),
        field=None if field is None else _column(field, fields, name),
        ordered=kind == "temporal_ordered",
        id=name,
    )


def _minimum(rule: Any, name: str, kind: str, streams: int) -> int:
    condition = rule.condition
    if condition is None and kind.startswith("temporal"):
        return streams
    operator = getattr(getattr(condition, "op", None), "name", "none")
    if operator not in ("GTE", "GT"):
        raise ConfigurationError(f"Sigma rule {name!r}: a correlation's condition is gte or gt, not {operator.lower()}")
    return int(condition.count) + (operator == "GT")


def _keys(rule: Any, streams: Iterable[str], fields: Fields) -> Any:
    """The key columns: alike in all streams, or where there are aliases as they say."""
    name, groups = _name(rule), list(rule.group_by or ())
    if not groups:
        return None
    aliases = {alias.alias: alias.mapping for alias in rule.aliases}
    if not any(group in aliases for group in groups):
        return [_column(group, fields, name) for group in groups]
    keys: dict[str, list[str]] = {stream: [] for stream in streams}
    for group in groups:
        said = {str(reference.reference): column for reference, column in aliases.get(group, {}).items()}
        for reference in rule.rules:
            stream = _name(reference.rule)
            keys[stream].append(_column(said.get(str(reference.reference), group), fields, name))
    return keys


def _column(field: str, fields: Fields, name: str) -> str:
    found = fields.get(field, field)
    if not isinstance(found, str):
        raise ConfigurationError(f"Sigma rule {name!r}: {field!r} has to be a column, to group or count by it")
    return found


def _check(rules: Iterable[Rule], correlators: Iterable[EventCorrelator]) -> None:
    ids = [*(rule.id for rule in rules), *(correlator.id for correlator in correlators)]
    twice = [id for id in ids if ids.count(id) > 1]
    if twice:
        raise ConfigurationError(f"Sigma rules: two are called {twice[0]!r}; give each a name")


def _in_order(correlators: Iterable[EventCorrelator]) -> Iterator[EventCorrelator]:
    """Each after those that it reads."""
    todo = {correlator.id: correlator for correlator in correlators}
    while todo:
        ready = [c for c in todo.values() if not any(name in todo for name in c.streams)]
        if not ready:
            raise PlanError(f"Sigma rules: {', '.join(todo)} read each other")
        for correlator in ready:
            yield todo.pop(correlator.id)
