"""`AlertManager`: rules in, alerts stored, channels told."""

from __future__ import annotations

import hashlib
import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import msgspec
import polars as pl

from thalweg.alerts.alert import Alert
from thalweg.alerts.channels import Channel, ConsoleChannel
from thalweg.alerts.delivery import Delivery
from thalweg.alerts.evaluate import Hit, RuleSet, plain
from thalweg.alerts.rules import AlertRule, Severity, Status
from thalweg.alerts.store import Notification, SqliteStore
from thalweg.errors import ConfigurationError
from thalweg.streams.batch import OFFSET, PARTITION, RESERVED, TIMESTAMP

_OPEN = (Status.TRIGGERED, Status.ACKNOWLEDGED)


class AlertManager:
    """Evaluates rules over events, decides what is suppressed, stores alerts, and tells channels.

    Alerts and the notifications they owe are stored together before any channel is told; a thread delivers them at
    least once, with the same key at each repetition. The same event never alerts twice: an alert's id comes from its
    rule and origin.

    Args:
        url: `sqlite:///alerts.db`.
        clock: now, ms UTC; for tests.
        deliver: whether to run the delivery thread. False: `deliver_due()` sends when you say so.

    >>> import asyncio
    >>> alerts = AlertManager("sqlite://", deliver=False)
    >>> alerts.add_rule(AlertRule(id="cpu", name="High CPU", condition=lambda e: e.cpu > 90, severity=Severity.HIGH))
    >>> [alert.title for alert in asyncio.run(alerts.process_event({"cpu": 97, "host": "a"}))]
    ['High CPU: cpu=97 host=a']
    """

    def __init__(
        self, url: str = "sqlite:///alerts.db", *, clock: Callable[[], int] | None = None, deliver: bool = True
    ) -> None:
        self.store = SqliteStore(url)
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._channels: dict[str, Channel] = {"console": ConsoleChannel()}
        self._rules: dict[str, AlertRule] = {}
        self._delivery = Delivery(self.store, self._channels, self._clock)
        self._deliver = deliver
        self._sets: dict[Any, RuleSet] = {}

    # -- set-up

    def add_channel(self, name: str, channel: Channel) -> None:
        """Makes a channel known under a name (replacing one of that name)."""
        self._channels[name] = channel

    def add_rule(self, rule: AlertRule) -> None:
        """Adds a rule; its id must be new."""
        if rule.id in self._rules:
            raise ConfigurationError(f"there is a rule {rule.id!r} already")
        self._rules[rule.id] = rule
        self._sets.clear()

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """The rules, in the order in which they were added."""
        return tuple(self._rules.values())

    def check(self) -> None:
        """Refuses what would fail later: no rules, or channels that nobody added.

        Raises:
            ConfigurationError: which rule names which unknown channel.
        """
        if not self._rules:
            raise ConfigurationError("the alert manager has no rules; add one with add_rule(AlertRule(…))")
        for rule in self._rules.values():
            for name in rule.notification_channels:
                if name not in self._channels:
                    close = get_close_matches(name, self._channels, n=1)
                    hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(self._channels)}"
                    raise ConfigurationError(f"rule {rule.id!r} names the channel {name!r}, which nobody added{hint}")

    def start(self) -> None:
        """Checks the set-up and starts delivery, of what an earlier process left first."""
        self.check()
        if self._deliver:
            self._delivery.start()

    # -- events

    async def process_event(
        self, event: Mapping[str, Any], *, timestamp: int | None = None, origin: str | None = None
    ) -> list[Alert]:
        """Evaluates all rules on one event; returns its alerts, suppressed ones too.

        Args:
            timestamp: event time, ms UTC; none: now.
            origin: what tells this event from another equal one; with it, processing it again changes nothing.
        """
        when = self._clock() if timestamp is None else timestamp
        frame = pl.DataFrame([dict(event)], infer_schema_length=None)
        alerts, failed = self.process_frame(frame.with_columns(pl.lit(when, pl.Int64).alias(TIMESTAMP)), origin=origin)
        if failed:
            raise next(iter(failed.values()))
        return [alert for _, alert in alerts]

    def process_frame(
        self, frame: pl.DataFrame, *, keys: Sequence[str] = (), source: str = "", origin: str | None = None
    ) -> tuple[list[tuple[int, Alert]], dict[int, Exception]]:
        """Evaluates all rules over a frame with event times in `__ts`.

        Args:
            keys: the columns that fingerprints are made of where a rule does not say.
            source: names the stream, for the ids of alerts.

        Returns:
            (row, alert) for each match, as it was first decided where it is stored already (a replay gives the same
            rows again, but stores and tells nothing), and the rows on which a condition raised.
        """
        self.start()
        hits, failed = self._rule_set(frame).hits(frame)
        if not hits:
            return [], failed
        made = self._alerts(frame, hits, keys, source, origin)
        known = self.store.known(alert.id for _, alert in made)
        fresh = self._decide([(row, alert) for row, alert in made if alert.id not in known])
        if fresh:
            self.store.add([alert for _, alert in fresh], {r.id: r.notification_channels for r in self.rules})
            self._delivery.wake()
        decided = {alert.id: alert for _, alert in fresh}
        for _, alert in made:
            if alert.id in known:
                reason = known[alert.id]
                status = Status.TRIGGERED if reason is None else Status.SUPPRESSED
                decided[alert.id] = replace(alert, status=status, reason=reason)
        first: dict[str, int] = {}
        for row, alert in made:
            first.setdefault(alert.id, row)
        return [(row, decided[id]) for id, row in first.items()], failed

    def _rule_set(self, frame: pl.DataFrame) -> RuleSet:
        schema = pl.Schema({name: dtype for name, dtype in frame.schema.items() if name not in RESERVED})
        shape = tuple(schema.items())
        if shape not in self._sets:
            self._sets[shape] = RuleSet(self.rules, schema)
        return self._sets[shape]

    def _alerts(
        self, frame: pl.DataFrame, hits: Sequence[Hit], keys: Sequence[str], source: str, origin: str | None
    ) -> list[tuple[int, Alert]]:
        rows = sorted({hit.row for hit in hits})
        events = dict(zip(rows, frame[rows].iter_rows(named=True), strict=True))
        now = self._clock()
        result = []
        for hit in hits:
            row, rule = events[hit.row], hit.rule
            event = {name: plain(value) for name, value in row.items() if name not in RESERVED}
            by = keys if rule.by is None else rule.by
            fingerprint = rule.fingerprint({name: event.get(name) for name in by})
            id = _identity(
                rule, fingerprint, row, event, source, origin or (None if row.get(OFFSET) is not None else "")
            )
            alert = Alert(
                id, rule.id, rule.version, rule.name, rule.severity, Status.TRIGGERED, fingerprint, event,
                int(row[TIMESTAMP]), now, rule.labels,
            )  # fmt: skip
            result.append((hit.row, alert))
        return result

    def _decide(self, alerts: Sequence[tuple[int, Alert]]) -> list[tuple[int, Alert]]:
        """Marks what is suppressed. Alerts count in the order of their event times, whatever the order of the batch."""
        reach = {r.id: max((s.window for s in r.suppression_rules), default=0) for r in self.rules}
        limited = [alert for _, alert in alerts if reach[alert.rule]]
        fired: dict[str, list[int]] = {alert.fingerprint: [] for alert in limited}
        if limited:  # one query per batch, not one per alert
            times, far = [alert.event_time for alert in limited], max(reach.values())
            for fingerprint, time_ in self.store.fired(list(fired), min(times) - far, max(times) + far):
                fired[fingerprint].append(time_)
        decided: dict[str, Alert] = {}
        for _, alert in sorted(alerts, key=lambda item: (item[1].event_time, item[1].id)):
            if alert.id in decided:
                continue
            earlier = fired.get(alert.fingerprint, [])
            rules = self._rules[alert.rule].suppression_rules
            reason = next((why for s in rules if (why := s.blocks(earlier, alert.event_time))), None)
            if reason is not None:
                alert = replace(alert, status=Status.SUPPRESSED, reason=reason)
            elif reach[alert.rule]:
                insort(earlier, alert.event_time)
            decided[alert.id] = alert
        unique: dict[str, tuple[int, Alert]] = {}
        for row, alert in alerts:
            unique.setdefault(alert.id, (row, decided[alert.id]))
        return list(unique.values())

    # -- life of an alert

    def list(
        self,
        *,
        status: Status | str | None = None,
        rule: str | None = None,
        severity: Severity | str | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """The newest alerts first, by event time."""
        return self.store.find(
            status=None if status is None else Status(status),
            rule=rule,
            severity=None if severity is None else Severity(severity),
            limit=limit,
        )

    def acknowledge(self, id: str, by: str) -> Alert:
        """Somebody has taken the alert."""
        return self.store.move(id, Status.ACKNOWLEDGED, by, self._clock(), [Status.TRIGGERED])

    def resolve(self, id: str, by: str) -> Alert:
        """It is over."""
        return self.store.move(id, Status.RESOLVED, by, self._clock(), _OPEN)

    def history(self, id: str) -> Sequence[dict[str, Any]]:
        """Every change of the alert's status: when, to what, by whom, why."""
        return self.store.history(id)

    # -- delivery

    def notifications(self, alert: str | None = None) -> Sequence[Notification]:
        """What channels were told, or are still owed."""
        return self.store.notifications(alert)

    def deliver_due(self) -> int:
        """Sends what is due now, in this thread; returns how many got through."""
        return self._delivery.send_due()

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until every notification is delivered or given up; false if some are still pending."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Stops delivery; what is pending stays in the store and is sent at the next start."""
        self._delivery.stop(timeout)
        for channel in self._channels.values():
            channel.close()
        self.store.close()

    # -- streams

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> Any:
        """The plan node of `stream.alert(manager)`."""
        from thalweg.alerts.node import AlertNode

        self.check()
        return AlertNode(inputs=(upstream,), manager=self, keys=key_columns)


def _identity(
    rule: AlertRule, fingerprint: str, row: Mapping[str, Any], event: Mapping[str, Any], source: str, origin: str | None
) -> str:
    """What makes the alert the same when its event is read again: the record it came from, or else what it says."""
    if origin:
        place: object = origin
    elif origin is None:
        # One record can become several rows, and a union has the same offsets twice: what it says tells them apart.
        said = msgspec.json.encode(event, order="sorted").decode()
        place = (source, row.get(PARTITION), row.get(OFFSET), row[TIMESTAMP], said)
    else:
        place = (source, row[TIMESTAMP], msgspec.json.encode(event, order="sorted").decode())
    return hashlib.sha256(repr((rule.id, fingerprint, place)).encode()).hexdigest()[:32]
