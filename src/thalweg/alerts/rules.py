"""What to alert on: rules as frozen values, checked when they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from thalweg.alerts.escalation import EscalationLevel, EscalationPolicy
from thalweg.alerts.severity import Severity, Status
from thalweg.alerts.suppression import CountBasedSuppression, Suppression, TimeBasedSuppression
from thalweg.alerts.templates import Template
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

__all__ = [
    "AlertRule",
    "CountBasedSuppression",
    "EscalationLevel",
    "EscalationPolicy",
    "Severity",
    "Status",
    "Suppression",
    "TimeBasedSuppression",
]


@dataclass(frozen=True)
class AlertRule:
    """When to alert, how badly, and whom to tell.

    Without `hold`, `clear`, `auto_resolve` or `absent` every event that meets the condition is an alert of its own.
    With `hold`, `clear` or `auto_resolve=True` the rule watches a *state*, per fingerprint: the alert begins when the
    condition has held for `hold`, counts further events instead of repeating itself, and is resolved when the state has
    ended (if `auto_resolve` says so). With `absent` it is the lack of events that alerts.

    Args:
        id: names the rule in alerts and for suppression; keep it.
        name: for people; the alert's title, unless `title` is given.
        condition: an expression, a traced lambda, a callable over one event, or a text in the language of conditions
            (`"cpu > 90 && host.startsWith('db')"`, see docs/rules.md).
        severity: of its alerts.
        enabled: a disabled rule is checked but never evaluated.
        notification_channels: names of channels of the manager; `on-call:<schedule>` is whoever is on call. None: the
            manager's routes decide; without routes, the console.
        suppression_rules: any one of them that blocks suppresses the alert.
        by: the fields that make alerts of this rule different from each other (host, user); together with the rule's
            id they are the fingerprint. None: the stream's key columns.
        labels: fixed facts that go with the alert (team, service); routes, silences and inhibition match them.
        title, text: Jinja templates over `event`, `labels`, `severity` and `rule`, in a sandbox.
        runbook: the address of what to do.
        hold: how long the condition must hold (event time) before it alerts.
        clear: the state ends where this is true, instead of where `condition` is not: hysteresis.
        auto_resolve: True: resolve the alert once the state has ended. A duration: once it has ended for so long; for a
            rule without a state, so long after the last event.
        absent: alert when a fingerprint that was seen has had no event that meets the condition for so long.
        escalation_policy: whom to tell while nobody acknowledges.
    """

    id: str
    name: str
    condition: Any
    severity: Severity = Severity.MEDIUM
    enabled: bool = True
    notification_channels: Sequence[str] | None = None
    suppression_rules: Sequence[Suppression] = ()
    by: Sequence[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    escalation_policy: EscalationPolicy | None = None
    title: str | None = None
    text: str | None = None
    runbook: str | None = None
    hold: Duration | None = None
    clear: Any = None
    auto_resolve: bool | Duration = False
    absent: Duration | None = None

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
        if self.notification_channels is not None and not self.notification_channels:
            raise ConfigurationError(f"rule {self.id!r} tells nobody: name a channel, or leave it to the routes (None)")
        for name in ("hold", "absent"):
            if getattr(self, name) is not None:
                milliseconds(getattr(self, name), name=f"{name} of rule {self.id!r}", minimum=1)
        if not isinstance(self.auto_resolve, bool):
            milliseconds(self.auto_resolve, name=f"auto_resolve of rule {self.id!r}", minimum=1)
        if self.absent is not None and (self.hold is not None or self.clear is not None):
            raise ConfigurationError(f"rule {self.id!r}: `absent` does not go together with `hold` and `clear`")
        if self.runbook is not None and not self.runbook.startswith(("http://", "https://")):
            raise ConfigurationError(f"rule {self.id!r}: runbook {self.runbook!r} is no http address")
        for where in ("title", "text"):
            if getattr(self, where) is not None:
                Template(getattr(self, where), f"{where} of rule {self.id!r}")

    @property
    def watches_state(self) -> bool:
        """Whether it follows a state over time, rather than single events."""
        return self.hold is not None or self.clear is not None or (self.auto_resolve is True and self.absent is None)

    @property
    def tracked(self) -> bool:
        """Whether it is about a state or an absence: its events are followed, not judged one by one."""
        return self.watches_state or self.absent is not None

    @property
    def hold_ms(self) -> int:
        """How long the condition must hold."""
        return 0 if self.hold is None else milliseconds(self.hold)

    @property
    def resolve_ms(self) -> int | None:
        """How long after the end of the state (or the last event) the alert is resolved; None: never."""
        if self.auto_resolve is False:
            return None
        return 0 if self.auto_resolve is True else milliseconds(self.auto_resolve, name="auto_resolve")

    def fingerprint(self, values: Mapping[str, Any]) -> str:
        """What makes two alerts of this rule the same: 32 hexadecimal digits."""
        text = repr((self.id, sorted((name, str(value)) for name, value in values.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @cached_property
    def version(self) -> str:
        """Changes with what the rule says, its condition included where that is a text or an expression (a function's
        code can't be told apart)."""
        condition = "function" if callable(self.condition) else str(self.condition)
        parts = (
            self.name, self.severity, tuple(self.notification_channels or ()), tuple(self.suppression_rules),
            sorted(self.labels.items()), condition, self.title, self.text, self.runbook, self.hold,
            "function" if callable(self.clear) else str(self.clear), self.auto_resolve, self.absent,
            self.escalation_policy,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
