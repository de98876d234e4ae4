"""A graver alert silences the lesser ones about the same thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.alerts.alert import Alert
from thalweg.alerts.matching import Matcher, all_of, facts_of, matchers
from thalweg.alerts.severity import OPEN
from thalweg.alerts.stages.base import Look
from thalweg.alerts.store.base import Changes, Store
from thalweg.errors import ConfigurationError

FRESH = 1_000
"""ms for which what was read of open alerts holds, besides what this process decides itself."""
_PAGE = 1_000


@dataclass(frozen=True)
class Inhibition:
    """While an alert that meets `source` is open, those that meet `target` and have the same values of `equal` are
    suppressed.

    >>> Inhibition(source={"severity": "critical"}, target=["severity!=critical"], equal=["host"]).equal
    ['host']
    """

    source: Mapping[str, str] | Sequence[str]
    target: Mapping[str, str] | Sequence[str]
    equal: Sequence[str] = ()
    _source: tuple[Matcher, ...] = field(init=False, repr=False, compare=False)
    _target: tuple[Matcher, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_source", matchers(self.source))  # type: ignore[arg-type]
        object.__setattr__(self, "_target", matchers(self.target))  # type: ignore[arg-type]
        if isinstance(self.equal, str):
            raise ConfigurationError("inhibition: equal is one text; give a list of names")
        if not self._source or not self._target:
            raise ConfigurationError("an inhibition needs matchers for its source and its target")

    def place(self, alert: Alert) -> tuple[str, ...]:
        """What source and target must have in common."""
        facts = facts_of(alert)
        return tuple(str(facts.get(name, "")) for name in self.equal)

    def is_source(self, alert: Alert) -> bool:
        return all_of(self._source, alert)

    def is_target(self, alert: Alert) -> bool:
        return all_of(self._target, alert)

    @property
    def severity(self) -> str | None:
        """The one severity that sources have, if the matchers say so."""
        return next((m.value for m in self._source if m.name == "severity" and not m.regex and not m.negate), None)


class Inhibiting:
    """Carries out inhibitions. Reads the open sources at most once a second, and when told to by `forget`."""

    name = "inhibition"

    def __init__(self) -> None:
        self.inhibitions: list[Inhibition] = []
        self._places: list[dict[tuple[str, ...], str]] = []
        self._read_at: int | None = None

    def forget(self) -> None:
        """What is open has changed."""
        self._read_at = None

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        if not self.inhibitions or (self._read_at is not None and 0 <= look.now - self._read_at < FRESH):
            return
        self._read_at = look.now
        self._places = [
            {i.place(alert): alert.id for alert in _open(look.store, i.severity) if i.is_source(alert)}
            for i in self.inhibitions
        ]

    def decide(self, alert: Alert, look: Look) -> str | None:
        for inhibition, places in zip(self.inhibitions, self._places, strict=True):
            if not inhibition.is_target(alert):
                continue
            source = places.get(inhibition.place(alert))
            if source is not None and source != alert.id:
                return f"inhibited by alert {source}"
        return None

    def passed(self, alert: Alert, look: Look) -> None:
        for inhibition, places in zip(self.inhibitions, self._places, strict=True):
            if inhibition.is_source(alert):
                places.setdefault(inhibition.place(alert), alert.id)

    def finish(self, changes: Changes, look: Look) -> None: ...


def _open(store: Store, severity: str | None) -> Iterator[Alert]:
    before: tuple[int, str] | None = None
    while page := store.find(status=[str(s) for s in OPEN], severity=severity, before=before, limit=_PAGE):
        yield from page
        before = (page[-1].event_time, page[-1].id)
