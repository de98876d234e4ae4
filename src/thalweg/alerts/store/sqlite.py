"""The embedded store: alerts, what is to be done, and their audit trail in one SQLite file (WAL).

What one decision changes is one SQL transaction, so a crash loses nothing and doubles nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.severity import OPEN
from thalweg.alerts.store.base import Changes, Conflict, Entry, New, Notification, Task
from thalweg.alerts.store.codec import alert_bytes, alert_of, task_bytes, task_of
from thalweg.errors import ConnectorError, StateError

VERSION = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS alerts (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, severity TEXT NOT NULL, status TEXT NOT NULL, fingerprint TEXT NOT NULL,
    event_time INTEGER NOT NULL, created INTEGER NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS alerts_by_fingerprint ON alerts (fingerprint, event_time) WHERE status <> 'suppressed';
CREATE INDEX IF NOT EXISTS alerts_by_time ON alerts (event_time DESC, id DESC);
CREATE INDEX IF NOT EXISTS alerts_by_status ON alerts (status, event_time DESC, id DESC);
CREATE INDEX IF NOT EXISTS alerts_by_rule ON alerts (rule, event_time DESC, id DESC);
CREATE INDEX IF NOT EXISTS alerts_by_severity ON alerts (severity, event_time DESC, id DESC);
CREATE INDEX IF NOT EXISTS alerts_by_both ON alerts (status, severity, event_time DESC, id DESC);
CREATE INDEX IF NOT EXISTS alerts_made ON alerts (created) WHERE status <> 'suppressed';
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, lane TEXT NOT NULL, due INTEGER NOT NULL, leased INTEGER NOT NULL,
    alert TEXT, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (lane, due);
CREATE INDEX IF NOT EXISTS tasks_all_due ON tasks (due);
CREATE INDEX IF NOT EXISTS tasks_by_kind ON tasks (kind, alert);
CREATE TABLE IF NOT EXISTS notifications (
    key TEXT PRIMARY KEY, alert TEXT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL, due INTEGER NOT NULL, error TEXT, grouped TEXT, reference TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS notifications_by_alert ON notifications (alert);
CREATE INDEX IF NOT EXISTS notifications_waiting ON notifications (grouped) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, alert TEXT NOT NULL, at INTEGER NOT NULL, what TEXT NOT NULL, by TEXT, reason TEXT
);
CREATE INDEX IF NOT EXISTS entries_by_alert ON entries (alert, number);
CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS version (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS changed (alert TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS changed_by_number ON changed (number);
INSERT INTO version SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM version);
"""
_NOTIFICATION = "key, alert, channel, kind, state, attempts, due, error, grouped, reference"
_MANY = 500
_OTHERS = 0.25
"""Seconds between two looks for what other processes have changed, while somebody waits for it."""


class SqliteStore:
    """See `Store`.

    Args:
        url: `sqlite:///alerts.db`, `sqlite:////absolute/path.db`, or `sqlite://` for one in memory.

    Raises:
        ConnectorError: the file can't be opened.
        StateError: it was written by another version.
    """

    def __init__(self, url: str) -> None:
        path = url.removeprefix("sqlite://").removeprefix("/") or ":memory:"
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        self._news = threading.Condition()
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
    def _transaction(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing; other threads wait. One that is not synced goes to the disk with the next one that is."""
        with self._lock:
            try:
                if not synced:
                    self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise ConnectorError(f"alert store {self.path}: {error}") from error
                raise
            finally:
                if not synced:
                    self._db.execute("PRAGMA synchronous = FULL")

    def _all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise ConnectorError(f"alert store {self.path}: {error}") from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    # -- writing

    def apply(self, changes: Changes, *, synced: bool = True) -> set[str]:
        """See `Store`."""
        with self._transaction(synced=synced) as db:
            made = {new.alert.id for new in changes.new if self._insert(db, new)}
            for alert in changes.alerts:
                self._update(db, alert)
            self._put_entries(db, changes.entries)
            self._put_tasks(db, changes.tasks, "REPLACE")
            self._put_tasks(db, changes.first_tasks, "IGNORE")
            db.executemany("DELETE FROM tasks WHERE id = ?", [(id,) for id in changes.done])
            self._put_notifications(db, changes.notifications)
            self._put_documents(db, changes)
            self._note_changed(db, [*made, *changes.touched()])
        with self._news:
            self._news.notify_all()
        return made

    def _insert(self, db: sqlite3.Connection, new: New) -> bool:
        values = (*_columns(new.alert), new.alert.id)
        columns = "rule, severity, status, fingerprint, event_time, created, revision, body, id"
        marks = ",".join("?" * len(values))
        if not db.execute(f"INSERT OR IGNORE INTO alerts ({columns}) VALUES ({marks})", values).rowcount:
            return False
        self._put_entries(db, new.entries)
        self._put_tasks(db, new.tasks, "REPLACE")
        self._put_notifications(db, new.notifications)
        return True

    @staticmethod
    def _update(db: sqlite3.Connection, alert: Alert) -> None:
        names = ("rule", "severity", "status", "fingerprint", "event_time", "created", "revision", "body")
        query = f"UPDATE alerts SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ? AND revision = ?"
        if not db.execute(query, (*_columns(alert), alert.id, alert.revision - 1)).rowcount:
            raise Conflict(alert.id)

    @staticmethod
    def _put_entries(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        db.executemany(
            "INSERT INTO entries (alert, at, what, by, reason) VALUES (?, ?, ?, ?, ?)",
            [(e.alert, e.at, e.what, e.by, e.reason) for e in entries],
        )

    @staticmethod
    def _put_tasks(db: sqlite3.Connection, tasks: Sequence[Task], otherwise: str) -> None:
        db.executemany(
            f"INSERT OR {otherwise} INTO tasks (id, kind, lane, due, leased, alert, body) VALUES (?, ?, ?, ?, 0, ?, ?)",
            [(t.id, t.kind, t.lane, t.due, t.alert, task_bytes(t)) for t in tasks],
        )

    @staticmethod
    def _put_notifications(db: sqlite3.Connection, notifications: Sequence[Notification]) -> None:
        db.executemany(
            f"INSERT OR REPLACE INTO notifications ({_NOTIFICATION}) VALUES ({','.join('?' * 10)})",
            [
                (n.key, n.alert, n.channel, n.kind, n.state, n.attempts, n.due, n.error, n.group, n.reference)
                for n in notifications
            ],
        )

    @staticmethod
    def _note_changed(db: sqlite3.Connection, alerts: Sequence[str]) -> None:
        db.executemany(
            "INSERT OR REPLACE INTO changed SELECT ?, coalesce(max(number), 0) + 1 FROM changed",
            [(alert,) for alert in alerts],
        )

    @staticmethod
    def _put_documents(db: sqlite3.Connection, changes: Changes) -> None:
        for name, body in changes.documents.items():
            if body is None:
                db.execute("DELETE FROM documents WHERE name = ?", (name,))
            else:
                db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (name, body))
        if changes.documents:
            db.execute("UPDATE version SET number = number + 1")

    # -- reading

    def get(self, ids: Iterable[str]) -> dict[str, Alert]:
        """See `Store`."""
        wanted, found = list(dict.fromkeys(ids)), {}
        for start in range(0, len(wanted), _MANY):
            part = wanted[start : start + _MANY]
            rows = self._all(f"SELECT id, body FROM alerts WHERE id IN ({','.join('?' * len(part))})", part)
            found.update({id: alert_of(body) for id, body in rows})
        return found

    def open_of(self, fingerprints: Sequence[str]) -> dict[str, Alert]:
        """See `Store`."""
        query = (
            "SELECT fingerprint, body FROM alerts WHERE fingerprint IN (SELECT value FROM json_each(?)) "
            "AND status <> 'suppressed' AND status IN (?, ?) ORDER BY event_time, id"
        )
        wanted = msgspec.json.encode(fingerprints).decode()
        return {f: alert_of(body) for f, body in self._all(query, (wanted, *map(str, OPEN)))}

    def fired(self, fingerprints: Sequence[str], since: int, until: int) -> list[tuple[str, int]]:
        """See `Store`."""
        query = (
            "SELECT fingerprint, event_time FROM alerts WHERE fingerprint IN (SELECT value FROM json_each(?)) "
            "AND event_time BETWEEN ? AND ? AND status <> 'suppressed' ORDER BY event_time"
        )
        return self._all(query, (msgspec.json.encode(fingerprints).decode(), since, until))

    def find(
        self,
        *,
        status: Sequence[str] = (),
        rule: str | None = None,
        severity: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """See `Store`."""
        where, values = [], list[Any]()
        plus = "+" if rule is not None else ""  # of a rule there are the fewest: its index, and no other
        if status:
            # Several are not in the order of time in the index of statuses: they would have to be sorted.
            where.append(f"{plus if len(status) == 1 else '+'}status IN ({','.join('?' * len(status))})")
            values += [str(one) for one in status]
        for name, value in (("rule", rule), (f"{plus}severity", severity)):
            if value is not None:
                where.append(f"{name} = ?")
                values.append(str(value))
        if before is not None:
            where.append("(event_time, id) < (?, ?)")
            values += before
        condition = " AND ".join(where) or "1"
        query = f"SELECT body FROM alerts WHERE {condition} ORDER BY event_time DESC, id DESC LIMIT ?"
        return [alert_of(body) for (body,) in self._all(query, (*values, limit))]

    def created_since(self, since: int) -> int:
        """See `Store`."""
        query = "SELECT count(*) FROM alerts WHERE created >= ? AND status <> 'suppressed'"
        return int(self._all(query, (since,))[0][0])

    def counts(self) -> dict[str, int]:
        """See `Store`."""
        return dict(self._all("SELECT status, count(*) FROM alerts GROUP BY status"))

    def entries(self, alert: str) -> list[Entry]:
        """See `Store`."""
        query = "SELECT alert, at, what, by, reason FROM entries WHERE alert = ? ORDER BY number"
        return [Entry(*row) for row in self._all(query, (alert,))]

    def notifications(
        self, alert: str | None = None, *, group: str | None = None, limit: int = 10_000
    ) -> list[Notification]:
        """See `Store`."""
        if group is not None:
            query, values = "grouped = ? AND state = 'waiting'", [group]
        elif alert is not None:
            query, values = "alert = ?", [alert]
        else:
            query, values = "1", list[str]()
        rows = self._all(f"SELECT {_NOTIFICATION} FROM notifications WHERE {query} LIMIT ?", (*values, limit))
        return [Notification(*row) for row in rows]

    def notifications_of(self, alerts: Sequence[str]) -> list[Notification]:
        """See `Store`."""
        query = f"SELECT {_NOTIFICATION} FROM notifications WHERE alert IN (SELECT value FROM json_each(?))"
        return [Notification(*row) for row in self._all(query, (msgspec.json.encode(alerts).decode(),))]

    # -- tasks

    def claim(self, owner: str, lane: str | None, now: int, lease: int, limit: int) -> list[Task]:
        """See `Store`. The file has one process, so the owner does not matter; nor does a lease that gets lost."""
        if (due := self.next_due(lane)) is None or due > now:
            return []  # without a write transaction
        where, values = ("lane = ? AND ", (lane,)) if lane is not None else ("", ())
        query = f"SELECT id, body FROM tasks WHERE {where}due <= ? AND leased <= ? ORDER BY due, id LIMIT ?"
        with self._transaction(synced=False) as db:
            rows = db.execute(query, (*values, now, now, limit)).fetchall()
            db.executemany("UPDATE tasks SET leased = ? WHERE id = ?", [(now + lease, id) for id, _ in rows])
        return [task_of(body) for _, body in rows]

    def renew(self, leases: Mapping[str, int], until: int) -> set[str]:
        """See `Store`."""
        query = "UPDATE tasks SET leased = ? WHERE id = ? AND leased = ?"
        with self._transaction(synced=False) as db:
            return {id for id, old in leases.items() if db.execute(query, (until, id, old)).rowcount}

    def task(self, id: str) -> Task | None:
        """See `Store`."""
        rows = self._all("SELECT body FROM tasks WHERE id = ?", (id,))
        return task_of(rows[0][0]) if rows else None

    def tasks(self, kind: str, alerts: Iterable[str] | None = None) -> list[Task]:
        """See `Store`."""
        if alerts is None:
            return [task_of(body) for (body,) in self._all("SELECT body FROM tasks WHERE kind = ?", (kind,))]
        query = "SELECT body FROM tasks WHERE kind = ? AND alert IN (SELECT value FROM json_each(?))"
        rows = self._all(query, (kind, msgspec.json.encode(list(alerts)).decode()))
        return [task_of(body) for (body,) in rows]

    def next_due(self, lane: str | None = None) -> int | None:
        """See `Store`."""
        where, values = ("WHERE lane = ?", (lane,)) if lane is not None else ("", ())
        found: int | None = self._all(f"SELECT min(due) FROM tasks {where}", values)[0][0]
        return found

    def recover(self) -> None:
        """See `Store`. A file has one process with workers: what is leased was leased by one that is gone."""
        with self._transaction() as db:
            db.execute("UPDATE tasks SET leased = 0 WHERE leased > 0")

    # -- documents

    def document(self, name: str) -> bytes | None:
        """See `Store`."""
        rows = self._all("SELECT body FROM documents WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def documents(self, prefix: str) -> dict[str, bytes]:
        """See `Store`."""
        query = "SELECT name, body FROM documents WHERE substr(name, 1, ?) = ? ORDER BY name"
        return {name: bytes(body) for name, body in self._all(query, (len(prefix), prefix))}

    def version(self) -> int:
        """See `Store`."""
        return int(self._all("SELECT number FROM version")[0][0])

    # -- changes

    def changed(self, since: int, limit: int) -> list[tuple[int, str]]:
        """See `Store`."""
        return self._all("SELECT number, alert FROM changed WHERE number > ? ORDER BY number LIMIT ?", (since, limit))

    def last_change(self) -> int:
        """See `Store`."""
        return int(self._all("SELECT coalesce(max(number), 0) FROM changed")[0][0])

    def wait(self, since: int, timeout: float) -> bool:
        """See `Store`. What this process changes it hears at once; of others the file is asked every quarter second."""
        deadline = time.monotonic() + timeout
        while True:
            with self._news:
                if self.last_change() > since:
                    return True
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._news.wait(min(left, _OTHERS))


def _columns(alert: Alert) -> tuple[Any, ...]:
    return (
        alert.rule, str(alert.severity), str(alert.status), alert.fingerprint, alert.event_time, alert.created,
        alert.revision, alert_bytes(alert),
    )  # fmt: skip
