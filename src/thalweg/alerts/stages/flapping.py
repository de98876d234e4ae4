"""A state that begins and ends again and again is told a few times, not all night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.alerts.alert import Alert
from thalweg.alerts.stages.base import Look
from thalweg.alerts.store.base import Changes
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class FlapDetection:
    """A fingerprint with `alerts` alerts within `window` of event time flaps: it is suppressed until it has been
    quiet enough for the count to fall again. Only for rules that watch a state."""

    alerts: int = 5
    window: Duration = "30m"

    def __post_init__(self) -> None:
        if self.alerts < 2:
            raise ConfigurationError(f"flap detection from {self.alerts} alerts on would suppress every alert; use 2 …")
        milliseconds(self.window, name="window of flap detection", minimum=1)


class Flapping:
    """Carries out flap detection. Suppressed beginnings do not count: it ends by itself."""

    name = "flapping"

    def __init__(self) -> None:
        self.detection: FlapDetection | None = None
        self._times: dict[str, list[int]] = {}

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        watched = [alert for alert in alerts if alert.stateful] if self.detection else []
        self._times = {alert.fingerprint: [] for alert in watched}
        if watched and self.detection:
            window = milliseconds(self.detection.window)
            times = [alert.event_time for alert in watched]
            for fingerprint, time in look.store.fired(list(self._times), min(times) - window, max(times)):
                self._times[fingerprint].append(time)

    def decide(self, alert: Alert, look: Look) -> str | None:
        if self.detection is None or not alert.stateful:
            return None
        since = alert.event_time - milliseconds(self.detection.window)
        near = sum(since < time <= alert.event_time for time in self._times[alert.fingerprint])
        return None if near < self.detection.alerts else f"flapping: {near} alerts within {self.detection.window}"

    def passed(self, alert: Alert, look: Look) -> None:
        if alert.fingerprint in self._times:
            self._times[alert.fingerprint].append(alert.event_time)

    def finish(self, changes: Changes, look: Look) -> None:
        self._times = {}
