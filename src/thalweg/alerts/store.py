"""The embedded store: alerts and their notifications in one SQLite file.

An alert and the notifications it owes are written in one transaction, so a crash loses neither. Alert ids come from the
event's origin: writing the same alert again changes nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.rules import Severity, Status
from thalweg.errors import ConfigurationError, ConnectorError, StateError

VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS alerts (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, rule_version TEXT NOT NULL, name TEXT NOT NULL, severity TEXT NOT NULL,
    status TEXT NOT NULL, fingerprint TEXT NOT NULL, event TEXT NOT NULL, event_time INTEGER NOT NULL,
    created INTEGER NOT NULL, labels TEXT NOT NULL, reason TEXT, acknowledged_by TEXT, resolved_by TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_by_fingerprint ON alerts (fingerprint, event_time) WHERE status <> 'suppressed';
CREATE INDEX IF NOT EXISTS alerts_by_status ON alerts (status, created);
CREATE TABLE IF NOT EXISTS notifications (
    alert TEXT NOT NULL REFERENCES alerts (id), channel TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    due INTEGER NOT NULL, error TEXT, PRIMARY KEY (alert, channel)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notifications_due ON notifications (due) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS transitions (
    alert TEXT NOT NULL, at INTEGER NOT NULL, status TEXT NOT NULL, by TEXT, reason TEXT
);
"""
_COLUMNS = (
    "id, rule, rule_version, name, severity, status, fingerprint, event, event_time, created, labels, reason, "
    "acknowledged_by, resolved_by"
)


@dataclass(frozen=True)
class Notification:
    """One alert that one channel is to be told of. `state`: pending, sent or failed; `due` in ms UTC."""

    alert: str
    channel: str
    state: str
    attempts: int
    due: int
    error: str | None

    @property
    def key(self) -> str:
        """The same at each repetition."""
        return f"{self.alert}:{self.channel}"


class SqliteStore:
    """Alerts in one SQLite file (WAL). Its methods may be called from any thread.

    Args:
        url: `sqlite:///alerts.db`, `sqlite:////absolute/path.db`, or `sqlite://` for one in memory.

    Raises:
        ConfigurationError: another kind of URL.
        StateError: the file was written by another version.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite://"):
            raise ConfigurationError(
                f"alert store {url!r}: this version keeps alerts in SQLite; use sqlite:///alerts.db"
            )
        path = url.removeprefix("sqlite://").removeprefix("/") or ":memory:"
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._create()
        except sqlite3.DatabaseError as error:
            raise ConnectorError(f"alert store {path}: {error}; is it a SQLite file, and may it be written?") from error

    def _create(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise StateError(f"alert store {self.path} has format {found}; this version of Thalweg reads {VERSION}")
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; other threads wait."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise ConnectorError(f"alert store {self.path}: {error}") from error
                raise

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    # -- alerts

    def known(self, ids: Iterable[str]) -> dict[str, str | None]:
        """Those of the ids that are stored already, each with why it was suppressed (None: it was not)."""
        wanted = list(ids)
        found: dict[str, str | None] = {}
        with self._lock:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                found.update(self._db.execute(f"SELECT id, reason FROM alerts WHERE id IN ({marks})", part).fetchall())
        return found

    def fired(self, fingerprints: Sequence[str], since: int, until: int) -> list[tuple[str, int]]:
        """Fingerprint and event time of those alerts of fingerprints that were not suppressed, in [since, until], in
        the order of time."""
        query = (
            "SELECT fingerprint, event_time FROM alerts WHERE fingerprint IN (SELECT value FROM json_each(?)) "
            "AND event_time BETWEEN ? AND ? AND status <> 'suppressed' ORDER BY event_time"
        )
        with self._lock:
            wanted = msgspec.json.encode(fingerprints).decode()
            return self._db.execute(query, (wanted, since, until)).fetchall()

    def add(self, alerts: Sequence[Alert], channels: Mapping[str, Sequence[str]]) -> None:
        """Stores alerts and, for those that are not suppressed, what each channel is owed.

        Args:
            channels: for each rule, the channels to notify.
        """
        with self.transaction() as db:
            for alert in alerts:
                values = (*_row(alert), alert.acknowledged_by, alert.resolved_by)
                marks = ",".join("?" * len(values))
                added = db.execute(f"INSERT OR IGNORE INTO alerts ({_COLUMNS}) VALUES ({marks})", values).rowcount
                if not added:
                    continue
                self._note(db, alert.id, alert.created, alert.status, None, alert.reason)
                if alert.status is Status.TRIGGERED:
                    db.executemany(
                        "INSERT OR IGNORE INTO notifications VALUES (?, ?, 'pending', 0, ?, NULL)",
                        [(alert.id, channel, alert.created) for channel in channels[alert.rule]],
                    )

    def get(self, id: str) -> Alert | None:
        """One alert."""
        with self._lock:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM alerts WHERE id = ?", (id,)).fetchone()
        return None if row is None else _alert(row)

    def find(
        self,
        *,
        status: Status | None = None,
        rule: str | None = None,
        severity: Severity | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """The newest alerts first, by event time."""
        wanted = {"status": status, "rule": rule, "severity": severity}
        given = {name: str(value) for name, value in wanted.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in given) or "1"
        query = f"SELECT {_COLUMNS} FROM alerts WHERE {where} ORDER BY event_time DESC, id LIMIT ?"
        with self._lock:
            return [_alert(row) for row in self._db.execute(query, (*given.values(), limit))]

    def counts(self) -> dict[str, int]:
        """How many alerts are in each status."""
        with self._lock:
            return dict(self._db.execute("SELECT status, count(*) FROM alerts GROUP BY status").fetchall())

    def move(self, id: str, to: Status, by: str, at: int, allowed: Sequence[Status]) -> Alert:
        """Changes an alert's status and notes who did it.

        Raises:
            ConfigurationError: no such alert, or it is not in one of the `allowed` statuses.
        """
        column = "acknowledged_by" if to is Status.ACKNOWLEDGED else "resolved_by"
        with self.transaction() as db:
            row = db.execute("SELECT status FROM alerts WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise ConfigurationError(f"there is no alert {id!r}")
            if row[0] not in allowed:
                raise ConfigurationError(f"alert {id!r} is {row[0]}; it can't become {to}")
            db.execute(f"UPDATE alerts SET status = ?, {column} = ? WHERE id = ?", (str(to), by, id))
            self._note(db, id, at, to, by, None)
        changed = self.get(id)
        assert changed is not None
        return changed

    @staticmethod
    def _note(db: sqlite3.Connection, id: str, at: int, status: Status, by: str | None, reason: str | None) -> None:
        db.execute("INSERT INTO transitions VALUES (?, ?, ?, ?, ?)", (id, at, str(status), by, reason))

    def history(self, id: str) -> list[dict[str, Any]]:
        """Every change of an alert's status: when (ms UTC), to what, by whom, why."""
        with self._lock:
            rows = self._db.execute(
                "SELECT at, status, by, reason FROM transitions WHERE alert = ? ORDER BY rowid", (id,)
            )
            return [dict(zip(("at", "status", "by", "reason"), row, strict=True)) for row in rows]

    # -- notifications

    def due(self, now: int, limit: int = 100) -> list[Notification]:
        """Pending notifications whose time has come, the longest due first."""
        query = "SELECT * FROM notifications WHERE state = 'pending' AND due <= ? ORDER BY due LIMIT ?"
        with self._lock:
            return [Notification(*row) for row in self._db.execute(query, (now, limit))]

    def next_due(self) -> int | None:
        """When the next pending notification is due; None where there is none."""
        with self._lock:
            due: int | None = self._db.execute("SELECT min(due) FROM notifications WHERE state = 'pending'").fetchone()[
                0
            ]
        return due

    def notifications(self, alert: str | None = None) -> list[Notification]:
        """Notifications of one alert, or all."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM notifications WHERE ? IS NULL OR alert = ?", (alert, alert))
            return [Notification(*row) for row in rows]

    def delivered(self, notification: Notification) -> None:
        """Notes that a notification got through."""
        self._update(notification, "sent", notification.due, None)

    def postpone(self, notification: Notification, due: int, error: str) -> None:
        """Notes a failed attempt, and when to try again."""
        self._update(notification, "pending", due, error)

    def give_up(self, notification: Notification, error: str) -> None:
        """Notes that a notification will not get through."""
        self._update(notification, "failed", notification.due, error)

    def _update(self, notification: Notification, state: str, due: int, error: str | None) -> None:
        with self.transaction() as db:
            db.execute(
                "UPDATE notifications SET state = ?, attempts = attempts + 1, due = ?, error = ? "
                "WHERE alert = ? AND channel = ?",
                (state, due, error, notification.alert, notification.channel),
            )


def _row(alert: Alert) -> tuple[Any, ...]:
    event = msgspec.json.encode(alert.event, enc_hook=str).decode()
    labels = msgspec.json.encode(dict(alert.labels)).decode()
    return (
        alert.id, alert.rule, alert.rule_version, alert.name, str(alert.severity), str(alert.status), alert.fingerprint,
        event, alert.event_time, alert.created, labels, alert.reason,
    )  # fmt: skip


def _alert(row: Sequence[Any]) -> Alert:
    id, rule, version, name, severity, status, fingerprint, event, event_time, created, labels, reason, *people = row
    return Alert(
        id, rule, version, name, Severity(severity), Status(status), fingerprint, msgspec.json.decode(event),
        event_time,
        created, msgspec.json.decode(labels), reason, *people,
    )  # fmt: skip
