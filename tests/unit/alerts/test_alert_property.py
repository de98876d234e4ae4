"""No sequence of events, acknowledgements, crashes, failures and clock jumps loses an alert, or pages after somebody
has taken it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.alerts.alerting import MINUTE, Clock, Kept, events, made
from tests.unit.alerts.alerting import rule as alert_rule

from thalweg.alerts import AlertManager, DeliveryError, EscalationLevel, EscalationPolicy, Message, Route, Status

POLICY = EscalationPolicy([EscalationLevel("5m", ["boss"]), EscalationLevel("5m", ["boss"])], repeat=2)


class Alerting(RuleBasedStateMachine):
    """One store; the process that works on it dies and is followed by another."""

    @initialize(grouped=st.booleans())
    def begin(self, grouped: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.grouped = grouped
        self.made: set[str] = set()
        self.taken: set[str] = set()
        self.told: set[str] = set()
        self.paged_after: list[str] = []
        self.offset = 0
        self.team, self.boss = Kept(), Kept()
        for channel in (self.team, self.boss):
            channel.look = self.looked
        self.manager = self.started()

    def started(self) -> AlertManager:
        url = f"sqlite:///{Path(self.folder.name) / 'alerts.db'}"
        manager, _ = made(url, self.clock, team=self.team, boss=self.boss)
        manager.add_rule(alert_rule(notification_channels=None, escalation_policy=POLICY))
        group = {"group_by": ["host"], "group_wait": "30s"} if self.grouped else {}
        manager.set_route(Route(channels=["team"], repeat_interval="20m", **group))
        return manager

    def looked(self, message: Message) -> None:
        alerts = message.grouped or [message.alert]
        if message.kind in ("triggered", "reminder"):
            self.paged_after += [alert.id for alert in alerts if alert.id in self.taken]

    @rule(hosts=st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
    def happen(self, hosts: list[str]) -> None:
        frame = events(*[(host, 95, self.offset + n) for n, host in enumerate(hosts)], first=self.offset)
        found, _ = self.manager.process_frame(frame)
        self.made |= {alert.id for _, alert in found}
        again, _ = self.manager.process_frame(frame)  # a replay
        assert {alert.id for _, alert in again} == {alert.id for _, alert in found}
        self.offset += len(hosts)

    @precondition(lambda self: self.made - self.taken)
    @rule(data=st.data(), how=st.sampled_from(["acknowledge", "resolve"]))
    def take(self, data: st.DataObject, how: str) -> None:
        id = data.draw(st.sampled_from(sorted(self.made - self.taken)))
        getattr(self.manager, how)(id, "ada")
        self.taken.add(id)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.taken)))
        self.manager.reopen(id, "ada")
        self.taken.discard(id)
        self.told.discard(id)
        for channel in (self.team, self.boss):
            self.note(channel)
        self.told.discard(id)

    @rule(minutes=st.sampled_from([0.2, 1, 6, 30, 600]))
    def pass_time(self, minutes: float) -> None:
        self.clock.turn(int(minutes * MINUTE))
        self.manager.deliver_due()

    @rule()
    def step_back(self) -> None:
        self.clock.turn(-10_000)  # the clock was set
        self.manager.deliver_due()

    @rule(broken=st.booleans())
    def break_channel(self, broken: bool) -> None:
        self.team.broken = DeliveryError("down") if broken else None

    @rule()
    def crash(self) -> None:
        """The process dies between taking tasks and telling: nothing of what it had in memory is left."""
        self.manager.store.claim("dead", None, self.clock.now, 60_000, 5)
        self.manager.store.close()
        self.manager = self.started()
        self.manager.store.recover()

    @invariant()
    def nobody_is_paged_for_what_is_taken(self) -> None:
        if hasattr(self, "paged_after"):
            assert not self.paged_after

    def note(self, channel: Kept) -> None:
        for message in channel.messages:
            self.told |= {alert.id for alert in message.grouped or [message.alert]}
        channel.messages.clear()

    def teardown(self) -> None:
        """In the end every alert that nobody has taken was told."""
        if not hasattr(self, "manager"):
            return
        self.team.broken = None
        for _ in range(8):
            self.clock.turn(6 * MINUTE)
            self.manager.deliver_due()
        self.note(self.team)
        open_ones = {a.id for a in self.manager.list(status=Status.TRIGGERED, limit=10_000)}
        assert open_ones == self.made - self.taken
        assert open_ones <= self.told
        assert not self.paged_after
        self.manager.close()
        self.folder.cleanup()


Alerting.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAlerting = Alerting.TestCase
