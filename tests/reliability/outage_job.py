"""An alerting process for the test of an outage: it reads the same events at each start, slowly, and goes on delivering
until it is killed or told to end. Its clock is off by what a file says.

python outage_job.py STORE URL FOLDER       (FOLDER/clock: ms to add to the clock; FOLDER/end: finish and leave)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from thalweg.alerts import (
    AlertManager,
    AlertRule,
    ChannelLimits,
    EscalationLevel,
    EscalationPolicy,
    TimeBasedSuppression,
    WebhookChannel,
)

HOSTS = [*(f"h{n}" for n in range(12)), "taken", "quiet"]
"""`taken` is acknowledged while the channel is down, `quiet` is silenced."""
REPEATED = 2
LIMITS = ChannelLimits(failures=3, pause="50ms", longest_pause="200ms")


def clock_of(folder: Path) -> Callable[[], int]:
    def clock() -> int:
        try:
            off = int((folder / "clock").read_text() or 0)
        except FileNotFoundError:
            off = 0
        return time.time_ns() // 1_000_000 + off

    return clock


def manager_of(store: str, url: str, folder: Path, *, deliver: bool) -> AlertManager:
    manager = AlertManager(store, deliver=deliver, lease="2s", clock=clock_of(folder))
    for channel in ("team", "boss"):
        manager.add_channel(channel, WebhookChannel(f"{url}/{channel}", allow_private=True), limits=LIMITS)
    manager.add_rule(
        AlertRule(
            id="cpu",
            name="CPU",
            condition="cpu > 90",
            by=["host"],
            notification_channels=["team"],
            suppression_rules=[TimeBasedSuppression("1h")],
            escalation_policy=EscalationPolicy([EscalationLevel("2h", ["boss"])]),
        )
    )
    return manager


def main(store: str, url: str, folder: Path) -> None:
    manager = manager_of(store, url, folder, deliver=True)
    if not manager.silences:
        manager.silence({"host": "quiet"}, "2000d", by="ada", reason="patching")
    for number, host in enumerate(HOSTS * REPEATED):
        schema = {"host": pl.String, "cpu": pl.Float64, "__ts": pl.Int64, "__partition": pl.Int32, "__offset": pl.Int64}
        manager.process_frame(pl.DataFrame([(host, 95.0, number, 0, number)], schema=schema, orient="row"))
        time.sleep(0.02)
    while not (folder / "end").exists():
        time.sleep(0.02)
        if error := manager.delivery_error():
            raise error
    manager.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
