"""`stream.alert(manager)` inside a running job.

Alerts are stored when their event is processed, before its epoch is committed: after a crash the event is read again,
makes the same alert with the same id, and nothing is told twice. No state of its own: what was alerted is in the
manager's store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.alerts.alert import Alert
from thalweg.alerts.manager import AlertManager
from thalweg.streams.batch import DEAD, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.operator import Operator

ALERT_SCHEMA = pl.Schema(
    {
        "alert_id": pl.String,
        "rule": pl.String,
        "name": pl.String,
        "severity": pl.String,
        "status": pl.String,
        "title": pl.String,
        "fingerprint": pl.String,
        "event_time": pl.Int64,
        "reason": pl.String,
        "event": pl.String,
    }
)
"""One row per alert: `status` is "triggered" or "suppressed" (then with its `reason`), `event` is JSON."""


class Alerting(Operator):
    """Evaluates the manager's rules over each batch; passes on what became of it."""

    def __init__(
        self, operator_id: str, manager: AlertManager, keys: Sequence[str], topics: Sequence[str] = ()
    ) -> None:
        super().__init__(operator_id)
        self.manager = manager
        self.keys = list(keys)
        self.topics = topics
        manager.start()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if not frame.height:
            return
        alerts, failed = self.manager.process_frame(frame, keys=self.keys, source=self.id)
        matched = {row for row, _ in alerts}
        self.account.passed += len(matched)
        self.account.dead += len(failed)
        self.account.filtered += frame.height - len(matched) - len(failed)
        self.account.emitted += len(alerts)
        if alerts:
            yield Batch(_rows(alerts, frame))
        if failed:
            errors: list[RowError] = [(row, type(e).__name__, str(e), {}) for row, e in sorted(failed.items())]
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)


def _rows(alerts: Sequence[tuple[int, Alert]], frame: pl.DataFrame) -> pl.DataFrame:
    import msgspec

    rows = [
        (
            a.id, a.rule, a.name, str(a.severity), str(a.status), a.title, a.fingerprint, a.event_time, a.reason,
            msgspec.json.encode(dict(a.event)).decode(),
        )
        for _, a in alerts
    ]  # fmt: skip
    times = [name for name in (TIMESTAMP, WATERMARK) if name in frame.columns]
    return pl.DataFrame(rows, schema=ALERT_SCHEMA, orient="row").hstack(frame.select(times)[[row for row, _ in alerts]])
