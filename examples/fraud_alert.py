"""Fraud: an alert for every large transaction away from home; one per user in five minutes, the others suppressed.

python examples/feed.py transactions
python examples/fraud_alert.py
"""

import os
from dataclasses import dataclass

from thalweg import App
from thalweg.alerts import AlertManager, AlertRule, Severity, TimeBasedSuppression
from thalweg.streams import WatermarkGenerator


@dataclass
class User:
    id: str
    home_location: str


@dataclass
class Transaction:
    ts: int  # event time, ms UTC
    type: str
    amount: float
    location: str
    user: User


alerts = AlertManager(os.environ.get("THALWEG_ALERTS", "sqlite:///alerts.db"))
alerts.add_rule(
    AlertRule(
        id="fraud-detection",
        name="Potential Fraud Detected",
        condition=lambda e: (e.type == "transaction") & (e.amount > 10_000) & (e.location != e.user.home_location),
        severity=Severity.CRITICAL,
        notification_channels=["console"],
        suppression_rules=[TimeBasedSuppression("5m")],
    )
)

app = App("fraud-alert", broker=os.environ.get("THALWEG_BROKER", "sqlite:///data.db"))
transactions = app.stream("transactions", schema=Transaction, timestamp="ts", watermark=WatermarkGenerator("1s"))
transactions.key_by(user_id=lambda e: e.user.id).alert(alerts).to("fraud-alerts")

if __name__ == "__main__":
    app.run()
