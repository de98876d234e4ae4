"""What to alert on: rules, severities and suppression, as frozen values."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class Severity(StrEnum):
    """How bad it is; `rank` orders them, critical highest."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """5 for critical down to 1 for info."""
        return len(Severity) - list(Severity).index(self)


class Status(StrEnum):
    """Where an alert is in its life."""

    TRIGGERED = "triggered"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True)
class TimeBasedSuppression:
    """After an alert, events with the same fingerprint within `window` of its event time do not alert again.

    >>> TimeBasedSuppression("5m").window
    300000
    """

    window: int

    def __init__(self, window: Duration) -> None:
        object.__setattr__(self, "window", milliseconds(window, name="window of TimeBasedSuppression", minimum=1))

    def blocks(self, fired: Sequence[int], now: int) -> str | None:
        """Why an event at `now` is suppressed, given the sorted event times of the alerts of its fingerprint;
        None: it is not."""
        below = bisect_left(fired, now + self.window)
        last = fired[below - 1] if below else None
        return None if last is None or last <= now - self.window else f"within {self.window} ms of the alert at {last}"


@dataclass(frozen=True)
class CountBasedSuppression:
    """At most `count` alerts of one fingerprint within `window` of event time."""

    count: int
    window: int

    def __init__(self, count: int, window: Duration) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigurationError(
                f"count of CountBasedSuppression is {count!r}; it must be a whole number from 1 on"
            )
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "window", milliseconds(window, name="window of CountBasedSuppression", minimum=1))

    def blocks(self, fired: Sequence[int], now: int) -> str | None:
        """As `TimeBasedSuppression.blocks`."""
        near = bisect_left(fired, now + self.window) - bisect_right(fired, now - self.window)
        return None if near < self.count else f"{near} alerts within {self.window} ms already"


Suppression = TimeBasedSuppression | CountBasedSuppression


@dataclass(frozen=True)
class EscalationLevel:
    """Whom to tell when nobody has acknowledged for `delay`."""

    delay: Duration
    channels: Sequence[str]


@dataclass(frozen=True)
class EscalationPolicy:
    """Levels, one after the other, until somebody acknowledges."""

    levels: Sequence[EscalationLevel]


@dataclass(frozen=True)
class AlertRule:
    """When to alert, how badly, and whom to tell.

    Args:
        id: names the rule in alerts and for suppression; keep it.
        name: for people; the alert's title.
        condition: an expression, a traced lambda, or a callable over one event.
        severity: of its alerts.
        enabled: a disabled rule is checked but never evaluated.
        notification_channels: names of channels of the manager.
        suppression_rules: any one of them that blocks suppresses the alert.
        by: the fields that make alerts of this rule different from each other (host, user); together with the rule's
            id they are the fingerprint. None: the stream's key columns.
        labels: fixed facts that go with the alert (team, service).
        escalation_policy: not served yet: a rule with one is refused.
    """

    id: str
    name: str
    condition: Any
    severity: Severity = Severity.MEDIUM
    enabled: bool = True
    notification_channels: Sequence[str] = ("console",)
    suppression_rules: Sequence[Suppression] = ()
    by: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    escalation_policy: EscalationPolicy | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ConfigurationError("an alert rule needs an id")
        try:
            object.__setattr__(self, "severity", Severity(self.severity))
        except ValueError:
            known = ", ".join(Severity)
            raise ConfigurationError(f"rule {self.id!r}: severity {self.severity!r}; use one of {known}") from None
        for name in ("notification_channels", "by"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"rule {self.id!r}: {name} is one text; give a list of them")
        if self.escalation_policy is not None:
            raise ConfigurationError(
                f"rule {self.id!r} has an escalation policy, which this version can't carry out; leave it out rather "
                "than rely on it"
            )

    def fingerprint(self, values: Mapping[str, Any]) -> str:
        """What makes two alerts of this rule the same: 32 hexadecimal digits."""
        text = repr((self.id, sorted((name, str(value)) for name, value in values.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def version(self) -> str:
        """Changes when the rule's severity, channels, suppression or labels do (a condition's code can't be told
        apart)."""
        parts = (self.name, self.severity, tuple(self.notification_channels), tuple(self.suppression_rules),
                 sorted(self.labels.items()))  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
