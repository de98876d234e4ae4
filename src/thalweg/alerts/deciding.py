"""From what conditions say to alerts that are stored: identity, noise reduction, plans, and what states bring about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from thalweg.alerts.alert import Alert
from thalweg.alerts.evaluate import Hit
from thalweg.alerts.external import External
from thalweg.alerts.lifecycle import AUTO, Lifecycle
from thalweg.alerts.plain import event_of
from thalweg.alerts.planning import RECHECK, RECHECK_EVERY, Planner, new_of
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.severity import Status
from thalweg.alerts.stages import Look, Stage
from thalweg.alerts.states import Change, ChangeKind
from thalweg.alerts.store.base import Changes, Conflict, Entry, New, Store, Task
from thalweg.alerts.templates import Template
from thalweg.faults import fault_point
from thalweg.streams.batch import OFFSET, PARTITION, TIMESTAMP

Found = list[tuple[int, Alert]]
"""Alerts with the row that caused each; -1: time did."""
PASSING = frozenset({"silence", "inhibition"})
"""Stages whose reason passes by itself: a state that outlasts it is told then."""
_FEW = 32
"""Up to so many events are taken out of a batch one by one."""


class Decider:
    """Decides what becomes of a batch, and stores it at once.

    Args:
        rules: by id; the caller changes it as it likes.
        stages: in their order.
    """

    def __init__(
        self,
        store: Store,
        rules: Mapping[str, AlertRule],
        stages: Sequence[Stage],
        planner: Planner,
        lifecycle: Lifecycle,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._rules = rules
        self._stages = stages
        self._planner = planner
        self._lifecycle = lifecycle
        self._clock = clock

    # -- events

    def events(
        self, frame: pl.DataFrame, hits: Sequence[Hit], keys: Sequence[str], source: str, origin: str | None
    ) -> Found:
        """The alerts of single events. A replay gives the same ones as they were first decided, and stores nothing."""
        made = self._made(frame, hits, keys, source, origin)
        decided = self._stored([alert for _, alert in made])
        first: dict[str, int] = {}
        for row, alert in made:
            first.setdefault(alert.id, row)
        return [(row, decided[id]) for id, row in first.items()]

    def _made(
        self, frame: pl.DataFrame, hits: Sequence[Hit], keys: Sequence[str], source: str, origin: str | None
    ) -> Found:
        if not hits:
            return []
        rows = sorted({hit.row for hit in hits})
        if len(rows) <= _FEW:  # a frame of its own for them costs more
            events = {row: frame.row(row, named=True) for row in rows}
        else:
            events = dict(zip(rows, frame[rows].iter_rows(named=True), strict=True))
        result = []
        for hit in hits:
            row, rule = events[hit.row], hit.rule
            event = event_of(row)
            fingerprint = rule.fingerprint({name: event.get(name) for name in (keys if rule.by is None else rule.by)})
            place = origin or (None if row.get(OFFSET) is not None else "")
            id = _identity(rule, fingerprint, row, event, source, place)
            result.append((hit.row, self._alert(rule, id, fingerprint, event, int(row[TIMESTAMP]))))
        return result

    def _alert(self, rule: AlertRule, id: str, fingerprint: str, event: Mapping[str, Any], at: int) -> Alert:
        values = {"event": event, "labels": rule.labels, "severity": str(rule.severity), "rule": rule.id}
        said = {
            where: Template(text, f"{where} of rule {rule.id!r}").render(values)
            for where, text in (("title", rule.title), ("text", rule.text))
            if text is not None
        }
        return Alert(
            id, rule.id, rule.version, rule.name, rule.severity, Status.TRIGGERED, fingerprint, event, at,
            self._clock(), rule.labels, headline=said.get("title"), text=said.get("text"), runbook=rule.runbook,
            last_event_time=at,
        )  # fmt: skip

    def external(self, found: Sequence[External]) -> list[Alert]:
        """Stores alerts of other systems, and ends those that have ended there."""
        decided = self._stored([one.alert for one in found if not one.resolved])
        for one in found:
            if one.resolved:
                self._end_external(one)
        return [decided[one.alert.id] for one in found if one.alert.id in decided]

    def _end_external(self, ended: External) -> None:
        id = ended.alert.id
        alert = self._store.get([id]).get(id) or self._store.open_of([ended.alert.fingerprint]).get(
            ended.alert.fingerprint
        )
        if alert is not None and alert.open:
            self._lifecycle.resolve(alert.id, AUTO, at=ended.ended)
        elif alert is not None and alert.active:
            self._count(alert.id, 0, ended.ended, active=False)

    def _stored(self, alerts: Sequence[Alert]) -> dict[str, Alert]:
        """Decides on those that are new and stores them; gives all of them as they were first decided."""
        known = self._store.get(alert.id for alert in alerts)
        decided = {id: _as_first_decided(alert) for id, alert in known.items()}
        fresh = {alert.id: alert for alert in alerts if alert.id not in known}
        if fresh:
            changes = Changes()
            for alert in self._decide(list(fresh.values()), changes):
                decided[alert.id] = alert
            fault_point("alerts.decided")
            self._store.apply(changes)
            fault_point("alerts.stored")
        return decided

    def _decide(self, alerts: Sequence[Alert], changes: Changes) -> list[Alert]:
        """Runs the stages over new alerts, in the order of their event times (of one time: the gravest first), whatever
        the order of the batch."""
        look = Look(self._store, self._rules, self._clock())
        for stage in self._stages:
            stage.prepare(alerts, look)
        decided = []
        for alert in sorted(alerts, key=lambda one: (one.event_time, -one.severity.rank, one.id)):
            new = self._decided(alert, look, changes)
            changes.new.append(new)
            decided.append(new.alert)
        for stage in self._stages:
            stage.finish(changes, look)
        return decided

    def _decided(self, alert: Alert, look: Look, changes: Changes) -> New:
        begun = Entry(alert.id, look.now, "matched", None, f"rule {alert.rule} version {alert.rule_version}")
        for stage in self._stages:
            reason = stage.decide(alert, look)
            if reason is None:
                continue
            held = replace(alert, status=Status.SUPPRESSED, reason=reason)
            entries = [begun, Entry(alert.id, look.now, str(Status.SUPPRESSED), None, f"{stage.name}: {reason}")]
            again = stage.name in PASSING and alert.active
            task = Task(f"recheck:{alert.id}", RECHECK, look.now + RECHECK_EVERY, alert.id)
            return New(held, entries, [task] if again else [])
        for stage in self._stages:
            stage.passed(alert, look)
        plan = self._planner.begin(look.rules.get(alert.rule), alert, look.now)
        changes.first_tasks += plan.first_tasks
        return new_of(alert, plan, [begun, Entry(alert.id, look.now, str(Status.TRIGGERED), None, None)])

    def still_suppressed(self, alert: Alert) -> str | None:
        """Why an alert that a passing stage suppressed is so still; None: it is not."""
        look = Look(self._store, self._rules, self._clock())
        for stage in self._stages:
            if stage.name in PASSING:
                stage.prepare([alert], look)
                if reason := stage.decide(alert, look):
                    return reason
        return None

    # -- states

    def changed(self, changes: Sequence[Change]) -> Found:
        """Stores what became of states; gives the alerts that began or ended."""
        found: Found = []
        beginning: list[Change] = []
        further: dict[str, list[Change]] = {}
        for change in changes:
            if change.kind is ChangeKind.BEGUN:
                beginning.append(change)
            elif change.kind is ChangeKind.GOES_ON:
                further.setdefault(change.fingerprint, []).append(change)
            else:
                found += self._begin(beginning)
                beginning = []
                self._go_on(further.pop(change.fingerprint, ()))
                if (alert := self._end(change)) is not None:
                    found.append((change.row, alert))
        found += self._begin(beginning)
        self._go_on([change for of_state in further.values() for change in of_state])
        return found

    def _begin(self, changes: Sequence[Change]) -> Found:
        if not changes:
            return []
        alerts = []
        for change in changes:
            rule = self._rules[change.rule]
            alert = self._alert(rule, state_id(change), change.fingerprint, change.event, change.at)
            alerts.append(replace(alert, stateful=True, active=True))
        known = self._store.get(alert.id for alert in alerts)
        open_ones = self._store.open_of([alert.fingerprint for alert in alerts if alert.id not in known])
        for alert in alerts:
            if alert.id not in known and (before := open_ones.get(alert.fingerprint)) is not None:
                self._count(before.id, 1, alert.event_time, active=True)
        new = [alert for alert in alerts if alert.id in known or alert.fingerprint not in open_ones]
        decided = self._stored(new)
        rows = {state_id(change): change.row for change in changes}
        return [(rows[alert.id], decided[alert.id]) for alert in new]

    def _go_on(self, changes: Sequence[Change]) -> None:
        """Books further events of states, of all of them at once."""
        alerts = self._alerts_of(changes)
        counted: dict[str, Alert] = {}
        for change, before in zip(changes, alerts, strict=True):
            alert = None if before is None else counted.get(before.id, before)
            if alert is not None and (after := _counted(alert, change.count, change.at, active=True)) is not None:
                counted[alert.id] = after
        # Of one that counted twice the revision moves once.
        known = {alert.id: alert.revision for alert in alerts if alert is not None}
        changed = [replace(alert, revision=known[id] + 1) for id, alert in counted.items()]
        if not changed:
            return
        try:
            self._store.apply(Changes(alerts=changed))
        except Conflict:
            for change, before in zip(changes, alerts, strict=True):
                if before is not None:
                    self._count(before.id, change.count, change.at, active=True)

    def _end(self, change: Change) -> Alert | None:
        """Books the end of a state; gives its alert where that ended by itself."""
        [alert] = self._alerts_of([change])
        if alert is None:
            return None
        if change.kind is ChangeKind.RESOLVED and alert.open:
            return self._lifecycle.resolve(alert.id, AUTO, at=change.at)
        if change.kind is ChangeKind.RESOLVED and alert.resolved_by == AUTO:
            return alert  # a replay gives the same rows again
        if alert.active:
            self._count(alert.id, 0, change.at, active=False)
        return None

    def _alerts_of(self, changes: Sequence[Change]) -> list[Alert | None]:
        """The alert of each change's state; where the state began while one was open, that one."""
        ids = [state_id(change) for change in changes]
        known = self._store.get(ids)
        others = [change.fingerprint for id, change in zip(ids, changes, strict=True) if id not in known]
        open_ones = self._store.open_of(others) if others else {}
        return [known.get(id) or open_ones.get(change.fingerprint) for id, change in zip(ids, changes, strict=True)]

    def _count(self, id: str, more: int, at: int, *, active: bool) -> None:
        """Adds events to an alert, or the end of its state."""
        while True:
            after = _counted(self._store.get([id])[id], more, at, active=active)
            if after is None:
                return
            ended = [] if active else [Entry(id, self._clock(), "state over", None, f"at {at}")]
            try:
                self._store.apply(Changes(alerts=[after], entries=ended))
            except Conflict:
                continue
            return


def _counted(alert: Alert, more: int, at: int, *, active: bool) -> Alert | None:
    """The alert with further events. Those of a replay, which are not newer than the last, do not count again: None."""
    if active and at <= alert.last_event_time:
        return None
    last = max(at, alert.last_event_time)
    return replace(alert, count=alert.count + more, last_event_time=last, active=active, revision=alert.revision + 1)


def state_id(change: Change) -> str:
    """The id of the alert about a state: the same however often its beginning is seen."""
    return hashlib.sha256(repr((change.rule, change.fingerprint, "state", change.began)).encode()).hexdigest()[:32]


def _as_first_decided(alert: Alert) -> Alert:
    status = Status.TRIGGERED if alert.reason is None else Status.SUPPRESSED
    return replace(alert, status=status)


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
