"""The history of alerts in PostgreSQL: for reports over years, long after the store has let them go.

A store counts its changes and knows which alert each was about. An exporter reads on from the last count that
PostgreSQL has, and writes the alerts as they are now, new lines of their audit trails, and what channels were told, in
one transaction with the new count: after a crash of either side it goes on where it was, and nothing comes twice.
Alerting does not depend on it: while PostgreSQL is away alerts are decided and told as always.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.store.base import Changes, Entry, Notification, Store
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, ConnectorError, MissingExtraError

logger = logging.getLogger(__name__)

IDENTITY = "history:store"
"""The document that tells a store from another one, or from itself after it was emptied."""
_BATCH = 500
_LONGEST_PAUSE = 60.0
_TABLES = """
CREATE TABLE IF NOT EXISTS thalweg_alerts (
    source text, id text, rule text NOT NULL, rule_version text NOT NULL, name text NOT NULL, severity text NOT NULL,
    status text NOT NULL, reason text, fingerprint text NOT NULL, title text NOT NULL, event_time timestamptz NOT NULL,
    created timestamptz NOT NULL, labels jsonb NOT NULL, event jsonb NOT NULL, acknowledged_by text, resolved_by text,
    assignee text, count bigint NOT NULL, revision bigint NOT NULL, PRIMARY KEY (source, id)
);
CREATE INDEX IF NOT EXISTS thalweg_alerts_by_time ON thalweg_alerts (source, event_time);
CREATE TABLE IF NOT EXISTS thalweg_alert_entries (
    source text, alert text, number bigint, at timestamptz NOT NULL, what text NOT NULL, who text, reason text,
    PRIMARY KEY (source, alert, number)
);
CREATE TABLE IF NOT EXISTS thalweg_alert_notifications (
    source text, key text, alert text NOT NULL, channel text NOT NULL, kind text NOT NULL, state text NOT NULL,
    attempts bigint NOT NULL, due timestamptz NOT NULL, error text, reference text, PRIMARY KEY (source, key)
);
CREATE TABLE IF NOT EXISTS thalweg_alert_exports (
    source text PRIMARY KEY, store text NOT NULL, position bigint NOT NULL
);
"""
_ALERT = (
    "source", "id", "rule", "rule_version", "name", "severity", "status", "reason", "fingerprint", "title",
    "event_time", "created", "labels", "event", "acknowledged_by", "resolved_by", "assignee", "count", "revision",
)  # fmt: skip
_NOTE = ("source", "key", "alert", "channel", "kind", "state", "attempts", "due", "error", "reference")


class History(Protocol):
    """A place where alerts are kept for good."""

    @property
    def every(self) -> int:
        """ms between two exports."""

    def export(self, store: Store) -> int:
        """Takes over what has changed since the last time; returns how many alerts that were.

        Raises:
            ConnectorError: it can't be reached, or refuses; the next export takes over the same again.
        """

    def close(self) -> None: ...


class PostgresHistory:
    """Alerts, audit trails and notifications in the tables `thalweg_alerts`, `thalweg_alert_entries` and
    `thalweg_alert_notifications`, which it makes where they are missing.

    Args:
        url: `postgresql://user:password@host:5432/database`; never shown with its password.
        name: tells alert managers that share a database apart (column `source`).
        every: how often what has changed is exported.

    Raises:
        ConfigurationError: another kind of URL.
        MissingExtraError: psycopg is not installed.
    """

    def __init__(self, url: str, *, name: str = "alerts", every: Duration = "5s") -> None:
        if not url.startswith(("postgresql://", "postgres://")):
            raise ConfigurationError(
                f"history {url.rpartition('@')[2]!r}: a URL like postgresql://user@host/db is expected"
            )
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtraError("a history in PostgreSQL needs: pip install 'thalweg[postgres]'") from error
        self._psycopg: Any = psycopg
        self._url = url
        self._name = name
        self._every = milliseconds(every, name="`every` of the history", minimum=1)
        self._connection: Any = None

    def __repr__(self) -> str:
        return f"PostgresHistory({self._shown!r}, name={self._name!r})"

    @property
    def _shown(self) -> str:
        return "postgresql://" + self._url.partition("://")[2].rpartition("@")[2].partition("?")[0]

    @property
    def every(self) -> int:
        """ms between two exports."""
        return self._every

    def export(self, store: Store) -> int:
        """See `History`. Exporters of one name take turns, in this process or in others."""
        identity = _identity(store)
        exported = 0
        try:
            connection = self._connected()
            while True:
                with connection.transaction(), connection.cursor() as cursor:
                    position = self._position(cursor, identity, store)
                    changed = store.changed(position, _BATCH)
                    if not changed:
                        return exported
                    self._write(cursor, store, [alert for _, alert in changed])
                    cursor.execute(
                        "UPDATE thalweg_alert_exports SET store = %s, position = %s WHERE source = %s",
                        (identity, changed[-1][0], self._name),
                    )
                exported += len(changed)
        except self._psycopg.Error as error:
            self.close()
            raise ConnectorError(f"history {self._shown}: {_first_line(error)}") from error

    def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Any:
        if self._connection is None:
            connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            with connection.transaction(), connection.cursor() as cursor:
                # Two at once would both find the tables missing.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('thalweg alert history'))")
                cursor.execute(_TABLES)
            self._connection = connection
        return self._connection

    def _position(self, cursor: Any, identity: str, store: Store) -> int:
        """Where to go on; from the beginning for another store, or one that was put back to an earlier state."""
        cursor.execute(
            "INSERT INTO thalweg_alert_exports VALUES (%s, %s, 0) ON CONFLICT DO NOTHING", (self._name, identity)
        )
        cursor.execute("SELECT store, position FROM thalweg_alert_exports WHERE source = %s FOR UPDATE", (self._name,))
        found, position = cursor.fetchone()
        return position if found == identity and position <= store.last_change() else 0

    def _write(self, cursor: Any, store: Store, ids: Sequence[str]) -> None:
        alerts = store.get(ids)
        cursor.executemany(
            _upsert("thalweg_alerts", _ALERT, ("source", "id")) + " WHERE excluded.revision >= thalweg_alerts.revision",
            [self._alert(alert) for alert in alerts.values()],
        )
        cursor.execute(
            "SELECT alert, max(number) FROM thalweg_alert_entries WHERE source = %s AND alert = ANY(%s) GROUP BY alert",
            (self._name, list(ids)),
        )
        had = dict(cursor.fetchall())
        entries = [
            self._entry(number, entry)
            for id in ids
            for number, entry in enumerate(store.entries(id), 1)
            if number > had.get(id, 0)
        ]
        cursor.executemany(
            "INSERT INTO thalweg_alert_entries VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", entries
        )
        cursor.executemany(
            _upsert("thalweg_alert_notifications", _NOTE, ("source", "key")),
            [self._note(note) for note in store.notifications_of(ids)],
        )

    def _alert(self, alert: Alert) -> tuple[Any, ...]:
        return _clean(
            self._name, alert.id, alert.rule, alert.rule_version, alert.name, str(alert.severity), str(alert.status),
            alert.reason, alert.fingerprint, alert.title, _moment(alert.event_time), _moment(alert.created),
            _json(alert.labels), _json(alert.event), alert.acknowledged_by, alert.resolved_by, alert.assignee,
            alert.count, alert.revision,
        )  # fmt: skip

    def _entry(self, number: int, entry: Entry) -> tuple[Any, ...]:
        return _clean(self._name, entry.alert, number, _moment(entry.at), entry.what, entry.by, entry.reason)

    def _note(self, note: Notification) -> tuple[Any, ...]:
        return _clean(
            self._name, note.key, note.alert, note.channel, note.kind, note.state, note.attempts, _moment(note.due),
            note.error, note.reference,
        )  # fmt: skip


class Exporter:
    """Exports now and then in a thread; what goes wrong is logged, and tried again after a growing pause."""

    def __init__(self, history: History, store: Store) -> None:
        self._history = history
        self._store = store
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins, if it has not yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="thalweg-alerts-history", daemon=True)
            self._thread.start()

    def export(self) -> int:
        """Exports now, in this thread."""
        return self._history.export(self._store)

    def stop(self, timeout: float) -> None:
        """Exports what is left, as far as that can be done in the time, and ends."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self._history.close()

    def _run(self) -> None:
        pause = self._history.every / 1000
        while True:
            ending = self._stopped.is_set()
            try:
                self._history.export(self._store)
                pause = self._history.every / 1000
            except ConnectorError as error:
                pause = max(self._history.every / 1000, min(_LONGEST_PAUSE, pause * 2))
                logger.error("alerts: %s; exporting again in %.0f s", error, pause)
            if ending:
                return
            self._stopped.wait(pause)


def _identity(store: Store) -> str:
    found = store.document(IDENTITY)
    if found is None:
        store.apply(Changes(documents={IDENTITY: msgspec.json.encode(uuid.uuid4().hex)}))
        found = store.document(IDENTITY)  # another instance may have been at it, too
    return str(msgspec.json.decode(found or b'""'))


def _upsert(table: str, columns: Sequence[str], key: Sequence[str]) -> str:
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    marks = ", ".join(["%s"] * len(columns))
    names = ", ".join(columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"


_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def _moment(ms: int) -> datetime:
    """The time, as far as PostgreSQL's readers have it."""
    low, high = int(_EARLIEST.timestamp()), int(_LATEST.timestamp())
    seconds, rest = divmod(ms, 1000)
    if not low <= seconds <= high:
        return _EARLIEST if seconds < low else _LATEST
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(_without_zeros(dict(value)), enc_hook=str).decode()


def _without_zeros(value: Any) -> Any:
    """PostgreSQL's texts hold every character but one."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Mapping):
        return {_without_zeros(str(name)): _without_zeros(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_zeros(item) for item in value]
    return value


def _clean(*values: Any) -> tuple[Any, ...]:
    return tuple(_without_zeros(value) if isinstance(value, str) else value for value in values)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
