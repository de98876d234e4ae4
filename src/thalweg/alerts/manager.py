"""`AlertManager`: rules in, alerts stored, people told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from thalweg.alerts.auditor import Auditor
from thalweg.alerts.channels import Channel, ConsoleChannel
from thalweg.alerts.deciding import Decider
from thalweg.alerts.evaluate import RuleSet
from thalweg.alerts.history import Exporter, History
from thalweg.alerts.lifecycle import Lifecycle
from thalweg.alerts.limits import ChannelLimits
from thalweg.alerts.oncall import PREFIX, Schedule
from thalweg.alerts.overrides import OnCall
from thalweg.alerts.planning import Planner
from thalweg.alerts.processing import Processing
from thalweg.alerts.responding import Responding
from thalweg.alerts.routing import Route
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.sending import Figures, Sender
from thalweg.alerts.silences import MaintenanceWindow
from thalweg.alerts.stages import (
    FlapDetection,
    Flapping,
    Inhibiting,
    Inhibition,
    Silencing,
    Stage,
    Storm,
    StormProtection,
    Suppressing,
)
from thalweg.alerts.states import StateTracker, warm_up
from thalweg.alerts.store import Store, open_store
from thalweg.alerts.timers import Timers
from thalweg.alerts.worker import Worker
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class AlertManager(Processing, Responding):
    """Evaluates rules over events, decides what is suppressed, stores alerts, and tells channels.

    Alerts and what is owed to channels are stored together before any channel is told; threads deliver at least once,
    with the same key at each repetition. The same event never alerts twice: an alert's id comes from its rule and
    origin.

    Args:
        url: `sqlite:///alerts.db`, or `redis://host:6379/0`, which several instances can share.
        clock: now, ms UTC; for tests.
        deliver: whether to run the delivery threads. False: `deliver_due()` does what is due when you say so.
        lease: for how long an instance that has taken a message keeps others on its Redis from it: what a dead one had
            taken is told by another after so long. Longer than the slowest channel needs for a message.

    >>> import asyncio
    >>> alerts = AlertManager("sqlite://", deliver=False)
    >>> alerts.add_rule(AlertRule(id="cpu", name="High CPU", condition=lambda e: e.cpu > 90, severity="high"))
    >>> [alert.title for alert in asyncio.run(alerts.process_event({"cpu": 97, "host": "a"}))]
    ['High CPU: cpu=97 host=a']
    """

    def __init__(
        self,
        url: str = "sqlite:///alerts.db",
        *,
        clock: Callable[[], int] | None = None,
        deliver: bool = True,
        lease: Duration = "60s",
    ) -> None:
        leased = milliseconds(lease, name="lease of the alert manager", minimum=1)
        self.store: Store = open_store(url)
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._channels: dict[str, Channel] = {}
        self._rules: dict[str, AlertRule] = {}
        self._schedules: dict[str, Schedule] = {}
        self._sets: dict[Any, RuleSet] = {}
        self._read: dict[str, frozenset[str]] = {}
        self._fitting: dict[Any, tuple[Sequence[str], Exception | None]] = {}
        self._deliver = deliver
        self._checked = False
        self._silencing, self._inhibiting = Silencing(), Inhibiting()
        self._flapping, self._storm = Flapping(), Storm()
        stages: list[Stage] = [Suppressing(), self._silencing, self._inhibiting, self._flapping, self._storm]
        self._on_call = OnCall(self.store, self._schedules, self._clock)
        self._planner = Planner(self._on_call)
        self._lifecycle = Lifecycle(self.store, self._planner, self._clock, self._rules.get, self._on_change)
        self._decider = Decider(self.store, self._rules, stages, self._planner, self._lifecycle, self._clock)
        self._sender = Sender(self.store, self._channels, self._clock)
        self.auditor = Auditor(self.store, self._planner, self._clock, self._rules.get)
        timers = Timers(
            self.store, self._planner, self._lifecycle, self._clock, self._decider.still_suppressed,
            lambda: self._storm.protection,
        )  # fmt: skip
        self._worker = Worker(
            self.store, self._sender, timers, self._clock, lambda: list(self._channels), self._each_round, leased
        )
        self._exporters: list[Exporter] = []
        self._tracker: StateTracker | None = None
        self._lock = threading.RLock()
        self.add_channel("console", ConsoleChannel())

    # -- set-up

    def add_channel(self, name: str, channel: Channel, *, limits: ChannelLimits | None = None) -> None:
        """Makes a channel known under a name (replacing one of that name)."""
        if not name or name.startswith(PREFIX):
            raise ConfigurationError(f"a channel can't be called {name!r}")
        self._channels[name] = channel
        self._checked = False
        self._sender.limit(name, limits or ChannelLimits())

    def add_rule(self, rule: AlertRule) -> None:
        """Adds a rule; its id must be new."""
        if rule.id in self._rules:
            raise ConfigurationError(f"there is a rule {rule.id!r} already")
        self._rules[rule.id] = rule
        self._forget_compiled()
        self._checked = False

    def _forget_compiled(self) -> None:
        for known in (self._sets, self._read, self._fitting):
            known.clear()

    def add_history(self, history: History) -> None:
        """Keeps alerts, audit trails and notifications elsewhere, too, for good (`PostgresHistory`)."""
        self._exporters.append(Exporter(history, self.store))

    def replace_rules(self, rules: Iterable[AlertRule]) -> None:
        """Puts other rules in place of all there are, in a running manager too. Nothing changes where one is wrong.

        Raises:
            ConfigurationError: two rules of one id, or a channel or a responder that nobody added.
        """
        new = list(rules)
        ids = [rule.id for rule in new]
        if twice := {id for id in ids if ids.count(id) > 1}:
            raise ConfigurationError(f"two rules have the id {sorted(twice)[0]!r}")
        self._check_rules(new)
        with self._lock:
            self._rules.clear()
            self._rules.update({rule.id: rule for rule in new})
            self._forget_compiled()
            self._checked = False

    def add_schedule(self, schedule: Schedule) -> None:
        """Adds (or replaces) an on-call schedule; channels are told through `on-call:<name>`."""
        self._schedules[schedule.name] = schedule
        self._checked = False

    def set_route(self, root: Route) -> None:
        """Sets the routes of alerts whose rules name no channels."""
        self._planner.route = root
        self._checked = False

    def add_inhibition(self, inhibition: Inhibition) -> None:
        """Lets graver alerts silence lesser ones."""
        self._inhibiting.inhibitions.append(inhibition)
        self._inhibiting.forget()

    def add_maintenance(self, window: MaintenanceWindow) -> None:
        """Adds a recurring maintenance window."""
        self._silencing.windows.append(window)

    def detect_flapping(self, detection: FlapDetection | None) -> None:
        """Sets (or ends) flap detection."""
        self._flapping.detection = detection

    def protect_from_storms(self, protection: StormProtection | None) -> None:
        """Sets (or ends) storm protection."""
        self._storm.protection = protection
        self._checked = False

    @property
    def rules(self) -> tuple[AlertRule, ...]:
        """The rules, in the order in which they were added."""
        return tuple(self._rules.values())

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """The on-call schedules, by name, with the overrides of this moment."""
        return dict(self._on_call)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return tuple(self._channels)

    def check(self) -> None:
        """Refuses what would fail later: no rules, or channels and schedules that nobody added.

        Raises:
            ConfigurationError: which rule, route or person names what.
        """
        if not self._rules:
            raise ConfigurationError("the alert manager has no rules; add one with add_rule(AlertRule(…))")
        self._check_rules(self._rules.values())
        if self._planner.route is not None:
            if self._planner.route.channels is None:
                raise ConfigurationError("the root route names no channels: every alert must have somewhere to go")
            self._check_channels(self._planner.route.all_channels(), "a route")
        for schedule in self._schedules.values():
            for person in schedule.people:
                self._check_channels(person.channels, f"{person.name!r} (schedule {schedule.name!r})")
        if self._storm.protection is not None:
            self._check_channels(self._storm.protection.channels, "the storm protection")

    def _check_rules(self, rules: Iterable[AlertRule]) -> None:
        for rule in rules:
            policy = rule.escalation_policy
            named = [*(rule.notification_channels or ()), *(policy.channels if policy else ())]
            self._check_channels(named, f"rule {rule.id!r}")

    def _check_channels(self, names: Iterable[str], who: str) -> None:
        for name in names:
            schedule = name.startswith(PREFIX)
            known: Mapping[str, object] = self._schedules if schedule else self._channels
            bare = name.removeprefix(PREFIX) if schedule else name
            if bare not in known:
                close = get_close_matches(bare, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(known) or 'none'}"
                what = "on-call schedule" if schedule else "channel"
                raise ConfigurationError(f"{who} names the {what} {bare!r}, which nobody added{hint}")

    def channel(self, name: str) -> Channel:
        """A channel by its name."""
        return self._channels[name]

    def now(self) -> int:
        """The manager's clock, ms UTC."""
        return self._clock()

    def start_delivery(self) -> None:
        """Starts delivery (and what time brings about) without any rules: for a service that others feed."""
        if self._deliver:
            if any(rule.tracked for rule in self.rules):
                warm_up()
            self._worker.start()
            for exporter in self._exporters:
                exporter.start()

    def start(self) -> None:
        """Checks the set-up and starts delivery, of what an earlier process left first."""
        if not self._checked:
            self.check()
            self._checked = True
        self.start_delivery()

    def _each_round(self) -> None:
        if any(rule.tracked for rule in self.rules):
            self.tick()
        self.auditor.if_due()

    def _on_change(self) -> None:
        self._inhibiting.forget()
        self._worker.wake()

    # -- delivery

    def deliver_due(self) -> int:
        """Does what is due now, in this thread; returns how many messages got through."""
        return self._worker.run_due()

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until everything that is due is delivered or given up; false if something is still under way."""
        return self._worker.flush(timeout)

    def export_history(self) -> int:
        """Exports what has changed now, in this thread; returns how many alerts that were.

        Raises:
            ConnectorError: a history can't be reached.
        """
        return sum(exporter.export() for exporter in self._exporters)

    def delivery_figures(self) -> Figures:
        """What this process has delivered since its start."""
        return self._sender.figures()

    def delivery_error(self) -> BaseException | None:
        """What ended delivery for good, if anything did."""
        return self._worker.error

    def close(self, timeout: float = 5.0) -> None:
        """Stops delivery; what is pending stays in the store and is sent at the next start."""
        self._worker.stop(timeout)
        for exporter in self._exporters:
            exporter.stop(timeout)
        for channel in self._channels.values():
            channel.close()
        self.store.close()

    # -- streams

    def only(self, *rules: str) -> Chosen:
        """Some of the rules, for a stream whose events the others are not about: `stream.alert(alerts.only("cpu"))`.

        Raises:
            ConfigurationError: none is named, or there is no rule of that id.
        """
        if not rules:
            raise ConfigurationError("only() needs the id of at least one rule")
        for id in rules:
            if id not in self._rules:
                close = get_close_matches(id, self._rules, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ConfigurationError(f"only() names the rule {id!r}, which nobody added{hint}")
        return Chosen(self, tuple(dict.fromkeys(rules)))

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> Any:
        """The plan node of `stream.alert(manager)`."""
        return _node(self, None, upstream, key_columns)


@dataclass(frozen=True)
class Chosen:
    """Some rules of a manager, for one stream."""

    manager: AlertManager
    rules: tuple[str, ...]

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> Any:
        """The plan node of `stream.alert(manager.only(…))`."""
        return _node(self.manager, self.rules, upstream, key_columns)


def _node(manager: AlertManager, only: tuple[str, ...] | None, upstream: Any, keys: tuple[str, ...]) -> Any:
    from thalweg.alerts.node import AlertNode

    manager.check()
    return AlertNode(inputs=(upstream,), manager=manager, keys=keys, only=only)
