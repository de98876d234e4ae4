"""One SQLite file: opening it, its tables, reads, write transactions, and its errors in clear words."""

from __future__ import annotations

import difflib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thalweg.connectors.sqlite.wakeup import signal_of
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, ConnectorError, StateError

FORMAT_VERSION = 1
"""Of the tables below. A file of another version is refused, never guessed at."""

WAL_LIMIT = 16 * 1024 * 1024
"""Bytes. Past this the write-ahead log is folded back into the file by force."""

_SCHEMA = """
CREATE TABLE log_meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE log_topics(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    retention_ms INTEGER,                   -- NULL: for ever
    retention_bytes INTEGER                 -- of a partition; NULL: no bound
);
CREATE TABLE log_partitions(
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    log_start INTEGER NOT NULL DEFAULT 0,   -- the oldest offset still held
    log_end INTEGER NOT NULL DEFAULT 0,     -- the next offset to be given
    bytes INTEGER NOT NULL DEFAULT 0,       -- stored payload
    PRIMARY KEY(topic, partition)) WITHOUT ROWID;
CREATE TABLE log_batches(
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    base_offset INTEGER NOT NULL,
    count INTEGER NOT NULL,
    appended INTEGER NOT NULL,              -- ms UTC, the writer's clock
    payload BLOB NOT NULL                   -- Arrow IPC stream, zstd where that helps
);
CREATE UNIQUE INDEX log_batches_place ON log_batches(topic, partition, base_offset);
CREATE TABLE log_jobs(
    job TEXT NOT NULL,
    slot INTEGER NOT NULL,
    generation INTEGER NOT NULL,            -- counts the instances; an older one is fenced off
    state_partitions INTEGER NOT NULL,
    commits INTEGER NOT NULL DEFAULT 0,
    committed INTEGER,                      -- ms UTC
    PRIMARY KEY(job, slot)) WITHOUT ROWID;
CREATE TABLE log_offsets(
    job TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL,
    max_timestamp INTEGER NOT NULL,
    PRIMARY KEY(job, topic, partition)) WITHOUT ROWID;
CREATE TABLE log_states(
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of commit
    job TEXT NOT NULL,
    state_partition INTEGER NOT NULL,
    operator TEXT NOT NULL,
    sequence INTEGER NOT NULL,              -- 0 is the full one or the first delta
    part INTEGER NOT NULL,                  -- a payload too large for one row goes on in the next part
    is_full INTEGER NOT NULL,
    checksum INTEGER NOT NULL,              -- CRC-32 of the payload
    payload BLOB NOT NULL);
CREATE UNIQUE INDEX log_states_place ON log_states(job, state_partition, operator, sequence, part);
CREATE TABLE log_state_heads(               -- what the last commit names; a record that lacks is an error
    job TEXT NOT NULL,
    state_partition INTEGER NOT NULL,
    operator TEXT NOT NULL,
    records INTEGER NOT NULL,               -- sequence numbers in use
    parts INTEGER NOT NULL,                 -- rows in use
    PRIMARY KEY(job, state_partition, operator)) WITHOUT ROWID;
"""


def path_of(url: str) -> Path:
    """The file that `sqlite:///data.db` (relative) or `sqlite:////var/data.db` (absolute) names.

    Raises:
        ConfigurationError: another scheme, no file, or an in-memory database, which connections can't share.
    """
    prefix = "sqlite:///"
    name = url.removeprefix(prefix)
    if not url.startswith(prefix) or not name or name == ":memory:":
        raise ConfigurationError(f"broker {url!r}: name a file, as in sqlite:///data.db")
    return Path(name).expanduser()


class Database:
    """One connection to the file. Threads may share it one at a time; each source and committer has its own.

    Args:
        path: the file; made with its folder where it is missing.
        busy_timeout: how long to wait for another process's write transaction.
        durability: "normal" survives a killed process; "full" also a power cut (one fsync per commit).

    Raises:
        ConnectorError: unreadable, damaged, locked, or of a format this version doesn't know.
    """

    def __init__(self, path: Path, *, busy_timeout: Duration = "10s", durability: str = "normal") -> None:
        if durability not in ("normal", "full"):
            raise ConfigurationError(f'durability is {durability!r}; use "normal" or "full"')
        self.path = path
        self.signal = signal_of(path)
        self._busy_ms = milliseconds(busy_timeout, name="busy_timeout")
        self._wal = Path(f"{path}-wal")
        self._lock = threading.RLock()
        self._next_checkpoint = 0.0
        with self.translated("open"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(
                path, timeout=self._busy_ms / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            try:
                self._prepare(durability)
            except BaseException:
                self.connection.close()
                raise

    def _prepare(self, durability: str) -> None:
        run = self.connection.execute
        with self.signal.write_lock:
            run("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in a new file only
            self._enter_wal()
            run(f"PRAGMA synchronous = {durability.upper()}")
            run(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
            run("BEGIN IMMEDIATE")
            try:
                self._migrate()
                run("COMMIT")
            except BaseException:
                run("ROLLBACK")
                raise

    def _enter_wal(self) -> None:
        """SQLite doesn't wait when two processes turn a new file to WAL at once: one of them has to try again."""
        deadline = time.monotonic() + self._busy_ms / 1000
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _migrate(self) -> None:
        run = self.connection.execute
        if not run("SELECT 1 FROM sqlite_master WHERE name = 'log_meta'").fetchone():
            for statement in _SCHEMA.split(";\n"):
                run(statement)
            run("INSERT INTO log_meta VALUES ('format', ?)", (str(FORMAT_VERSION),))
            return
        (version,) = run("SELECT value FROM log_meta WHERE name = 'format'").fetchone() or ("none",)
        if version != str(FORMAT_VERSION):
            raise StateError(
                f"{self.path} is an embedded log of format {version}; this version of Thalweg reads format "
                f"{FORMAT_VERSION}. Open it with the version that wrote it, or name another file."
            )

    # -- statements

    def query(self, sql: str, parameters: Iterable[object] = ()) -> list[tuple[object, ...]]:
        """All rows of one short read."""
        with self._lock, self.translated("read"):
            return self.connection.execute(sql, tuple(parameters)).fetchall()

    @contextmanager
    def cursor(self, sql: str, parameters: Iterable[object]) -> Iterator[sqlite3.Cursor]:
        """Rows one by one, for payloads; the read ends with the block."""
        with self._lock, self.translated("read"):
            rows = self.connection.execute(sql, tuple(parameters))
            try:
                yield rows
            finally:
                rows.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of the block takes effect, or nothing. Readers are told after the commit."""
        with self._lock, self.signal.write_lock, self.translated("write"):
            run = self.connection.execute
            run("BEGIN IMMEDIATE")
            try:
                yield self.connection
                run("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    run("ROLLBACK")
                raise
        self.signal.notify()
        self._bound_wal()

    def wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def _bound_wal(self) -> None:
        """SQLite folds the write-ahead log back by itself, but can't start it anew while readers take turns without
        a gap; past the limit this waits a moment for them. A reader that stays longer only puts it off."""
        if self.wal_bytes() <= WAL_LIMIT or time.monotonic() < self._next_checkpoint:
            return
        self._next_checkpoint = time.monotonic() + 1
        with self._lock, self.signal.write_lock, self.translated("checkpoint"):
            self.connection.execute("PRAGMA busy_timeout = 20")
            try:
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {self._busy_ms}")

    def close(self) -> None:
        with self._lock:
            self.connection.close()

    # -- errors

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """SQLite's errors in words that say what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise ConnectorError(self._explain(doing, error)) from error
        except OSError as error:
            raise ConnectorError(f"can't {doing} the embedded log {self.path}: {error}") from error

    def _explain(self, doing: str, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorname", "") or ""
        start = f"can't {doing} the embedded log {self.path}: "
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return (
                f"{start}another program has held its write lock for {self._busy_ms} ms; end it, or raise busy_timeout"
            )
        if code.startswith("SQLITE_FULL"):
            return f"{start}the disk is full; nothing of this write took effect. Free space, or lower the retention"
        if code.startswith("SQLITE_NOTADB"):
            return f"{start}this is not a SQLite file; name another one"
        if code.startswith("SQLITE_CORRUPT"):
            return f"{start}the file is damaged ({error}); restore a copy, or move it away to start anew"
        if code.startswith("SQLITE_READONLY"):
            return f"{start}no right to write to the file or its folder"
        if code.startswith("SQLITE_CANTOPEN"):
            return f"{start}the file can't be opened or made; check the path and its rights"
        return f"{start}{error}" + (f" ({code})" if code else "")


def unknown_topic(name: str, known: Iterable[str], where: object) -> ConnectorError:
    """The error for a topic that isn't there, with names that look like it."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        hint = "did you mean " + " or ".join(repr(n) for n in close) + "?"
    elif names:
        shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
        hint = f"it holds {shown}"
    else:
        hint = "it holds none yet; append to it, or create the topic with ensure_topic()"
    return ConnectorError(f"no topic {name!r} in {where}: {hint}")
