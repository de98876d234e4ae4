"""Too many alerts at once: people get the first ones, and a digest of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.alerts.alert import Alert
from thalweg.alerts.stages.base import Look
from thalweg.alerts.store.base import Changes, Task
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

DIGEST = "digest"


@dataclass(frozen=True)
class StormProtection:
    """At most `limit` alerts within `window` (by the clock); further ones are kept, suppressed, and told together.

    Args:
        channels: where the digest goes.
        digest_after: how long after the first held-back alert it is sent, and how often while the storm lasts.
        spare: severities that are always told one by one.
    """

    limit: int
    window: Duration
    channels: Sequence[str]
    digest_after: Duration = "1m"
    spare: Sequence[str] = ("critical",)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigurationError(f"limit of the storm protection is {self.limit}; it is at least 1")
        if isinstance(self.channels, str) or not self.channels:
            raise ConfigurationError("the storm protection needs a list of channels for its digest")
        milliseconds(self.window, name="window of the storm protection", minimum=1)
        milliseconds(self.digest_after, name="digest_after of the storm protection", minimum=1)


class Storm:
    """Carries out storm protection."""

    name = "storm"

    def __init__(self) -> None:
        self.protection: StormProtection | None = None
        self._told = 0
        self._held: Counter[str] = Counter()
        self._since = 0
        """When the first alert that is held back was made: some time before it is decided on."""

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        self._held.clear()
        if self.protection is not None and alerts:
            self._told = look.store.created_since(look.now - milliseconds(self.protection.window) + 1)

    def decide(self, alert: Alert, look: Look) -> str | None:
        if self.protection is None or alert.severity in self.protection.spare or self._told < self.protection.limit:
            return None
        self._since = min(self._since, alert.created) if self._held else alert.created
        self._held[alert.rule] += 1
        return f"storm: {self._told} alerts within {self.protection.window} already; told in the digest"

    def passed(self, alert: Alert, look: Look) -> None:
        self._told += 1

    def finish(self, changes: Changes, look: Look) -> None:
        if self._held and self.protection is not None:
            due = look.now + milliseconds(self.protection.digest_after)
            changes.first_tasks.append(Task(DIGEST, DIGEST, due, data={"since": self._since}))
            self._held.clear()
