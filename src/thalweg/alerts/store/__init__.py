"""Where alerts are kept: SQLite (embedded), Redis (several instances), and PostgreSQL for their history."""

from __future__ import annotations

from thalweg.alerts.store.base import Changes, Entry, New, Notification, Store, Task
from thalweg.errors import ConfigurationError

__all__ = ["Changes", "Entry", "New", "Notification", "Store", "Task", "check_url", "open_store"]
_KINDS = ("sqlite://", "redis://", "rediss://", "unix://")


def check_url(url: str) -> None:
    """Refuses a URL that is of no kind of store, without looking whether the store is there.

    Raises:
        ConfigurationError: another kind of URL.
    """
    if not url.startswith(_KINDS):
        raise ConfigurationError(
            f"alert store {url.split('@')[-1]!r}: use sqlite:///alerts.db (one process) or redis://host:6379/0"
        )


def open_store(url: str) -> Store:
    """Opens the store of a URL: `sqlite:///alerts.db`, `sqlite://` (in memory), `redis://host:6379/0`, `rediss://…`.

    Raises:
        ConfigurationError: another kind of URL.
        ConnectorError: it can't be opened or reached.
    """
    check_url(url)
    if url.startswith("sqlite://"):
        from thalweg.alerts.store.sqlite import SqliteStore

        return SqliteStore(url)
    from thalweg.alerts.store.redis import RedisStore

    return RedisStore(url)
