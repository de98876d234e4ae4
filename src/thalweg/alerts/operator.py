"""`stream.alert(manager)` inside a running job.

Alerts are stored when their event is processed, before its epoch is committed: after a crash the event is read again,
makes the same alert with the same id, and nothing is told twice. The states that rules watch are part of the job's own
state, so they are where the job's offsets are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from thalweg.alerts.alert import Alert
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.states import StateTracker, warm_up
from thalweg.errors import StateError
from thalweg.streams.batch import DEAD, MIN_TIME, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.batch import Watermark as Time
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.operator import Memory, Operator, State, StateDelta
from thalweg.streams.state.key_groups import warm_up as warm_up_key_groups

_STATES = "states"
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
"""One row per alert: `status` is "triggered" or "suppressed" (then with its `reason`), and "resolved" where the state
that the alert is about has ended; `event` is JSON."""


class Alerting(Operator):
    """Evaluates the manager's rules over each batch; passes on what became of it."""

    def __init__(
        self,
        operator_id: str,
        manager: AlertManager,
        keys: Sequence[str],
        topics: Sequence[str] = (),
        only: Sequence[str] | None = None,
    ) -> None:
        super().__init__(operator_id)
        self.manager = manager
        self.keys = list(keys)
        self.topics = topics
        self.only = only
        self._tracker = StateTracker()
        self._passed = MIN_TIME
        manager.start()

    def warm_up(self) -> None:
        if any(rule.tracked for rule in self.manager.chosen(self.only)):
            warm_up_key_groups()
            warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if not frame.height:
            return
        alerts, failed = self.manager.process_frame(
            frame, keys=self.keys, source=self.id, tracker=self._tracker, only=self.only
        )
        matched = {row for row, _ in alerts if row >= 0}
        self.account.passed += len(matched - failed.keys())
        self.account.dead += len(failed)
        self.account.filtered += frame.height - len(matched | failed.keys())
        self.account.emitted += len(alerts)
        if alerts:
            # What nobody reads is only counted.
            yield Batch(self._rows(alerts, frame) if self.read else pl.DataFrame({"id": [a.id for _, a in alerts]}))
        if failed:
            errors: list[RowError] = [(row, type(e).__name__, str(e), {}) for row, e in sorted(failed.items())]
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)

    def on_watermark(self, watermark: Time) -> Iterable[Batch]:
        """Time alone begins states that have held, finds what is absent, and ends what has been quiet for long."""
        if not len(self._tracker) or watermark.event_time <= self._passed:
            return
        self._passed = watermark.event_time
        alerts = self.manager.process_time(watermark.event_time, self._tracker)
        if alerts:
            self.account.emitted += len(alerts)
            yield Batch(self._rows(alerts, None))

    def snapshot(self, *, full: bool = False) -> StateDelta:
        """One row for each state that has changed; a state that is gone says so."""
        frame = self._tracker.snapshot(full=full)
        return StateDelta(puts=[] if frame is None else [(_STATES, frame)], full=full)

    def restore(self, state: State) -> None:
        """Takes the states of a snapshot.

        Raises:
            StateError: they were saved by a version that kept them otherwise; starting without them would lose alerts.
        """
        if other := state.keys() - {_STATES}:
            raise StateError(
                f"{self.id}: another version of Thalweg saved the states of its rules (as {min(other)!r}), which "
                "this one can't read: let that one end them, or give the step another .uid(…) to start without them"
            )
        self._tracker.load(state.get(_STATES, ()), {rule.id: rule for rule in self.manager.rules}, self.keys)

    def memory(self) -> Memory:
        """States under way, and the events that they began with."""
        return Memory(len(self._tracker), self._tracker.bytes)

    def _rows(self, alerts: Sequence[tuple[int, Alert]], frame: pl.DataFrame | None) -> pl.DataFrame:
        import msgspec

        rows = [
            (
                a.id, a.rule, a.name, str(a.severity), str(a.status), a.title, a.fingerprint, a.event_time, a.reason,
                msgspec.json.encode(dict(a.event)).decode(),
            )
            for _, a in alerts
        ]  # fmt: skip
        made = pl.DataFrame(rows, schema=ALERT_SCHEMA, orient="row")
        if frame is not None and all(row >= 0 for row, _ in alerts):
            times = [name for name in (TIMESTAMP, WATERMARK) if name in frame.columns]
            return made.hstack(frame.select(times)[[row for row, _ in alerts]])
        # What time brings about happens at the watermark that brought it.
        at = pl.col("event_time") if self._passed == MIN_TIME else pl.max_horizontal("event_time", pl.lit(self._passed))
        return made.with_columns(at.alias(TIMESTAMP), pl.lit(self._passed, pl.Int64).alias(WATERMARK))
