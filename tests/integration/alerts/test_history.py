"""What PostgreSQL keeps of alerts: all of it, once, whatever breaks in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.postgres import PostgresServer
from tests.unit.alerts.alerting import Clock, Kept, events, made, rule
from thalweg.alerts import AlertManager, ChannelLimits, PostgresHistory
from thalweg.errors import ConfigurationError, ConnectorError


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres.url


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path / 'alerts.db'}"


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def alerting(store: str, database: str, clock: Clock | None = None) -> tuple[AlertManager, Clock]:
    manager, clock = made(store, clock)
    manager.add_channel("team", Kept(), limits=ChannelLimits(per_minute=None))
    manager.add_rule(rule())
    manager.add_history(PostgresHistory(database))
    return manager, clock


def same(manager: AlertManager, database: str) -> None:
    """PostgreSQL has what the store has."""
    kept = rows(database, "SELECT id, status, revision, title, event, labels FROM thalweg_alerts ORDER BY id")
    alerts = sorted(manager.list(limit=10_000), key=lambda alert: alert.id)
    assert kept == [(a.id, a.status, a.revision, a.title, dict(a.event), dict(a.labels)) for a in alerts]
    entries = rows(
        database,
        "SELECT alert, (extract(epoch FROM at) * 1000)::bigint, what, who, reason FROM thalweg_alert_entries "
        "ORDER BY alert, number",
    )
    assert entries == [(a.id, e["at"], e["what"], e["by"], e["reason"]) for a in alerts for e in manager.history(a.id)]
    told = rows(database, "SELECT key, state, attempts FROM thalweg_alert_notifications ORDER BY key")
    assert told == sorted((n.key, n.state, n.attempts) for n in manager.notifications())


def test_changes_are_exported_once_and_only_those(store: str, database: str):
    manager, clock = alerting(store, database)
    manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(550)]))
    manager.deliver_due()
    assert manager.export_history() == 550
    assert manager.export_history() == 0
    same(manager, database)
    first = manager.list(limit=1)[0]
    manager.acknowledge(first.id, "ada", "mine")
    manager.comment(first.id, "ada", "grüße 🚨")
    assert manager.export_history() == 1
    manager.close()
    again, _ = alerting(store, database, clock)
    again.process_frame(events(*[(f"h{n}", 95, n) for n in range(550)]))
    assert again.export_history() == 0
    again.resolve(first.id, "bob")
    assert again.export_history() == 1
    same(again, database)
    again.close()


def test_two_exporters_and_a_store_that_was_emptied(redis_url: str, database: str):
    import redis

    one, clock = alerting(redis_url, database)
    two, _ = alerting(redis_url, database, clock)
    one.process_frame(events(("a", 95, 0), ("b", 95, 1)))
    assert (one.export_history(), two.export_history()) == (2, 0)
    same(two, database)
    redis.Redis.from_url(redis_url).flushdb()
    fresh, _ = alerting(redis_url, database, clock)
    fresh.process_frame(events(("c", 95, 2)))
    assert fresh.export_history() == 1
    assert rows(database, "SELECT count(*) FROM thalweg_alerts") == [(3,)]
    for manager in (one, two, fresh):
        manager.close()


def test_a_server_that_is_away_is_caught_up_with(postgres: PostgresServer, database: str, tmp_path: Path):
    manager, _ = alerting(f"sqlite:///{tmp_path / 'alerts.db'}", database)
    manager.process_frame(events(("a", 95, 0)))
    assert manager.export_history() == 1
    postgres.stop()
    manager.process_frame(events(("b", 95, 1)))
    with pytest.raises(ConnectorError, match=r"history postgresql://127\.0\.0\.1"):
        manager.export_history()
    postgres.start()
    assert manager.export_history() == 1
    same(manager, database)
    manager.close()


def test_hostile_values_are_kept(database: str):
    manager, _ = alerting("sqlite://", database)
    manager.process_frame(events(("'; DROP TABLE thalweg_alerts; --", 95, 0), ("nul\x00", 95, 2**52)))
    assert manager.export_history() == 2
    kept = rows(database, "SELECT event->>'host', title FROM thalweg_alerts ORDER BY event_time")
    assert kept[0][0] == "'; DROP TABLE thalweg_alerts; --"
    assert kept[1][0] == "nul\ufffd"
    manager.close()


def test_it_exports_by_itself_and_once_more_at_the_end(database: str, tmp_path: Path):
    manager = AlertManager(f"sqlite:///{tmp_path / 'alerts.db'}")
    manager.add_channel("team", Kept())
    manager.add_rule(rule())
    manager.add_history(PostgresHistory(database, every="20ms"))
    manager.process_frame(events(("a", 95, 0)))
    deadline = time.monotonic() + 30
    while rows(database, "SELECT count(*) FROM pg_tables WHERE tablename = 'thalweg_alerts'") == [(0,)] or not rows(
        database, "SELECT 1 FROM thalweg_alerts"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    manager.process_frame(events(("b", 95, 1)))
    manager.close(20)
    assert rows(database, "SELECT count(*) FROM thalweg_alerts") == [(2,)]


def test_what_is_wrong_is_said_without_the_password():
    with pytest.raises(ConfigurationError, match="mysql"):
        PostgresHistory("mysql://host/db")
    history = PostgresHistory("postgresql://ada:hidden@127.0.0.1:1/db")
    assert "hidden" not in repr(history)
    manager, _ = made("sqlite://")
    manager.add_history(history)
    with pytest.raises(ConnectorError) as error:
        manager.export_history()
    assert "hidden" not in str(error.value)
    manager.close()
