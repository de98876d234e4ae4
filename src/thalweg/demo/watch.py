"""What the demo watches for: two patterns and two alert rules, on streams of the job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thalweg import DataStream
from thalweg.alerts import AlertManager, AlertRule, Message, Severity, TimeBasedSuppression
from thalweg.cep import PatternBuilder
from thalweg.demo.attacks import FAILURES, FRAUD_AMOUNT, Kind
from thalweg.demo.board import Board

BRUTE_FORCE = (
    PatternBuilder.create("brute-force", "Brute Force Login")
    .where("failed", lambda e: ~e.success)
    .times(FAILURES)
    .within("1m")
    .build()
)

INJECTION = (
    PatternBuilder.create("sql-injection", "SQL Injection")
    .where("probe", lambda e: "UNION SELECT" in e.url)
    .where("exploit", lambda e: e.status == 200)
    .within("30s")
    .build()
)

FRAUD = AlertRule(
    id="payment-fraud",
    name="Large payment away from home",
    condition=lambda e, limit=FRAUD_AMOUNT: (e.amount > limit) & (e.country != e.home_country),
    severity=Severity.CRITICAL,
    notification_channels=["screen"],
    suppression_rules=[TimeBasedSuppression("5m")],
)


def cpu_rule(threshold: float) -> AlertRule:
    """A core above `threshold` percent, averaged over a second."""
    return AlertRule(
        id="cpu-threshold",
        name=f"Core above {threshold:.0f} %",
        condition=lambda e, limit=threshold: e.mean > limit,
        severity=Severity.HIGH,
        notification_channels=["screen"],
        suppression_rules=[TimeBasedSuppression("30s")],
    )


class Screen:
    """The channel of the demo: alerts that are due for delivery appear on the board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def send(self, message: Message) -> None:
        """Shows the alert."""
        alert, event = message.alert, message.alert.event
        if alert.rule == FRAUD.id:
            text = f"{event['user']} paid {event['amount']:,.0f} in {event['country']}, home is {event['home_country']}"
            self._board.alert(Kind.FRAUD.value, text, alert.severity)
        else:
            self._board.alert("CPU", f"core {event['core']} at {event['mean']:.0f} % over a second", alert.severity)

    def close(self) -> None:
        """Nothing to free."""


class Watch:
    """Adds the patterns and rules to streams; finds go to the board, and to the topics `matches` and `alerts`.

    Args:
        board: told of everything.
        stores: where the alerts of the fraud rule and of the CPU rule are kept. Two, as each manager delivers what its
            store owes.
    """

    def __init__(self, board: Board, stores: tuple[Path, Path]) -> None:
        self._board = board
        self._fraud, self._cpu = (AlertManager(f"sqlite:///{store}") for store in stores)
        for manager in (self._fraud, self._cpu):
            manager.add_channel("screen", Screen(board))
        self._fraud.add_rule(FRAUD)

    def logins(self, stream: DataStream) -> None:
        matches = stream.key_by("user").detect(BRUTE_FORCE)
        matches.subscribe(self._brute_force)
        matches.to("matches")

    def requests(self, stream: DataStream) -> None:
        matches = stream.key_by("ip").detect(INJECTION)
        matches.subscribe(self._injection)
        matches.to("matches")

    def payments(self, stream: DataStream) -> None:
        alerts = stream.key_by("user").alert(self._fraud)
        alerts.subscribe(self._fraud_alert)
        alerts.to("alerts")

    def cores(self, windows: DataStream, threshold: float) -> None:
        self._cpu.add_rule(cpu_rule(threshold))
        alerts = windows.alert(self._cpu)
        alerts.subscribe(self._cpu_alert)
        alerts.to("alerts")

    def close(self) -> None:
        self._fraud.close()
        self._cpu.close()

    # -- subscribers

    def _brute_force(self, match: Any) -> None:
        seconds = (match.match_end - match.match_start) / 1000
        text = f"{match.key}, {len(match.events['failed'])} failed logins in {seconds:.1f} s"
        self._board.match(Kind.BRUTE_FORCE, match.key, match.match_end, text)

    def _injection(self, match: Any) -> None:
        self._board.match(Kind.INJECTION, match.key, match.match_end, f"{match.key}  {match.events['exploit'][0].url}")

    def _fraud_alert(self, alert: Any) -> None:
        user = json.loads(alert.event)["user"]
        self._board.decided(alert.status, Kind.FRAUD, user, alert.event_time)

    def _cpu_alert(self, alert: Any) -> None:
        window = json.loads(alert.event)
        self._board.cpu(alert.status, window["core"], window["window_end"])
