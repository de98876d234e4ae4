"""An alerting process that the tests kill: it reads the same events at each start, and ends when nothing is due.

python alerting_job.py STORE URL        (the fault point comes by THALWEG_FAULT)
"""

from __future__ import annotations

import sys
import time

import polars as pl

from thalweg.alerts import (
    AlertManager,
    AlertRule,
    EscalationLevel,
    EscalationPolicy,
    Status,
    TimeBasedSuppression,
    WebhookChannel,
)

HOSTS = ["a", "b", "c", "slow", "taken", "quiet"]
"""`slow` is left until it escalates, `taken` is acknowledged at once, `quiet` is silenced."""
REPEATED = 3
"""Events of each host; all but the first are suppressed."""
LEASE = 1_000
ESCALATES = "1500ms"


def events() -> pl.DataFrame:
    rows = [(host, 95.0, number) for number in range(REPEATED) for host in HOSTS]
    frame = pl.DataFrame(rows, schema={"host": pl.String, "cpu": pl.Float64, "__ts": pl.Int64}, orient="row")
    return frame.with_columns(pl.lit(0, pl.Int32).alias("__partition"), pl.int_range(pl.len()).alias("__offset"))


def manager_of(store: str, url: str, *, deliver: bool = True) -> AlertManager:
    manager = AlertManager(store, deliver=deliver, lease=LEASE)
    for channel in ("team", "boss"):
        manager.add_channel(channel, WebhookChannel(f"{url}/{channel}", allow_private=True))
    manager.add_rule(
        AlertRule(
            id="cpu",
            name="CPU",
            condition=pl.col("cpu") > 90,
            by=["host"],
            notification_channels=["team"],
            suppression_rules=[TimeBasedSuppression("1h")],
            escalation_policy=EscalationPolicy([EscalationLevel(ESCALATES, ["boss"])]),
        )
    )
    return manager


def respond(manager: AlertManager, host: str, *, acknowledge: bool) -> None:
    for alert in manager.list(limit=100):
        if alert.event["host"] != host:
            continue
        if acknowledge and alert.status is Status.TRIGGERED:
            manager.acknowledge(alert.id, "ada")
        elif not acknowledge and alert.open:
            manager.resolve(alert.id, "ada")


def main(store: str, url: str) -> None:
    manager = manager_of(store, url)
    if not manager.silences:
        manager.silence({"host": "quiet"}, "1h", by="ada", reason="patching")
    for part in events().iter_slices(5):
        manager.process_frame(part)
    respond(manager, "taken", acknowledge=True)
    while any(alert.escalating for alert in manager.list(status="triggered")) or manager.store.next_due() is not None:
        time.sleep(0.02)
        if error := manager.delivery_error():
            raise error
    for host in ("slow", "taken"):
        respond(manager, host, acknowledge=False)
    if not manager.flush(30):
        raise TimeoutError("something is due still")
    manager.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
