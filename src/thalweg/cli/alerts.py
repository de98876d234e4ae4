"""`thalweg alerts`: the service, and alerts from the command line, over a store or a configuration."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thalweg.alerts import Alert, AlertManager

app = typer.Typer(no_args_is_help=True, help="Alerts: serve, list, acknowledge, resolve, silence, test channels.")

Store = Annotated[str, typer.Option("--store", help="Where the alerts are: sqlite:///alerts.db or redis://…")]
Config = Annotated[Path, typer.Argument(help="A YAML file with channels, rules, routes …", exists=True, dir_okay=False)]
Ids = Annotated[list[str], typer.Argument(help="Ids of alerts, or their beginnings.")]
By = Annotated[str, typer.Option("--by", help="In whose name.", default_factory=getpass.getuser)]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it goes into the audit trail.")]
DEFAULT_STORE = "sqlite:///alerts.db"


@app.command()
def serve(
    config: Config,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8093,
) -> None:
    """Run the service: REST, live updates, metrics, webhooks in; deliver, escalate, audit."""
    import logging

    from thalweg.alerts.service.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and those of webhooks are secrets
    run(config, host=host, port=port)


@app.command()
def check(config: Config) -> None:
    """Check a whole configuration without running it."""
    from thalweg.alerts.service.server import check as checked

    manager = checked(config)
    typer.echo(f"{len(manager.rules)} rules, channels: {', '.join(manager.channels)}")
    manager.close(0)


@app.command("new-key")
def new_key(
    name: Annotated[str, typer.Argument(help="Whose key it is; audits show it.")],
    role: Annotated[str, typer.Option(help="viewer, responder or admin")] = "viewer",
) -> None:
    """Make an API key: the secret is shown once, the hash goes into the configuration."""
    from thalweg.alerts.service.access import ApiKey, Role
    from thalweg.errors import ConfigurationError

    if role.upper() not in Role.__members__:
        raise ConfigurationError(f"role {role!r}; there are viewer, responder, admin")
    key, secret = ApiKey.new(name, Role[role.upper()])
    typer.echo(f"secret (give it to {name}; it is not kept): {secret}")
    typer.echo(f"keys:\n  - {{name: {name}, role: {role.lower()}, sha256: {key.sha256}}}")


@app.command("list")
def list_alerts(
    store: Store = DEFAULT_STORE,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="triggered, acknowledged …; may come twice")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only those of this rule.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only those of this severity.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """List alerts, the newest first."""
    import polars as pl

    from thalweg.cli.topics import show

    with _manager(store) as manager:
        found = manager.list(status=status, rule=rule, severity=severity, limit=limit)
    if as_json:
        for alert in found:
            typer.echo(json.dumps(alert.payload()))
        return
    rows = [(a.id[:12], _time(a.event_time), a.severity, a.status, a.rule, a.title, a.assignee) for a in found]
    names = ["id", "time", "severity", "status", "rule", "title", "assignee"]
    show(pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row"), numbers=())


@app.command()
def explain(
    id: Annotated[str, typer.Argument(help="The id of an alert, or its beginning.")], store: Store = DEFAULT_STORE
) -> None:
    """Say why an alert is what it is: every decision, every message."""
    with _manager(store) as manager:
        typer.echo(manager.explain(_found(manager, id).id))


@app.command()
def ack(ids: Ids, by: By, store: Store = DEFAULT_STORE, reason: Reason = None) -> None:
    """Acknowledge alerts: escalation and reminders stop."""
    with _manager(store) as manager:
        for id in ids:
            _say(manager.acknowledge(_found(manager, id).id, by, reason))


@app.command()
def resolve(ids: Ids, by: By, store: Store = DEFAULT_STORE, reason: Reason = None) -> None:
    """Resolve alerts."""
    with _manager(store) as manager:
        for id in ids:
            _say(manager.resolve(_found(manager, id).id, by, reason))


@app.command()
def silence(
    match: Annotated[list[str], typer.Argument(help='Matchers, such as severity=low host=~"db-.*"')],
    by: By,
    duration: Annotated[str, typer.Option(help="For how long, such as 2h.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    store: Store = DEFAULT_STORE,
) -> None:
    """Suppress what matches for a while."""
    with _manager(store) as manager:
        made = manager.silence(match, duration, by=by, reason=reason)
        typer.echo(f"silence {made.id} until {_time(made.end)}")


@app.command()
def silences(store: Store = DEFAULT_STORE) -> None:
    """List the silences in force, and those to come."""
    with _manager(store) as manager:
        for one in manager.silences:
            said = " ".join(map(str, one.matchers))
            typer.echo(f"{one.id}  {_time(one.start)} – {_time(one.end)}  {said}  {one.by}: {one.reason}")


@app.command()
def unsilence(id: Annotated[str, typer.Argument(help="The id of a silence.")], store: Store = DEFAULT_STORE) -> None:
    """End a silence."""
    with _manager(store) as manager:
        manager.unsilence(id)


@app.command()
def override(
    config: Config,
    schedule: Annotated[str, typer.Argument(help="An on-call schedule of the configuration.")],
    person: Annotated[str, typer.Argument(help="Who stands in.")],
    by: By,
    reason: Annotated[str, typer.Option(help="Why.")],
    start: Annotated[
        str | None, typer.Option("--from", help="2026-12-24T09:00, by the schedule's clocks; else now.")
    ] = None,
    end: Annotated[str | None, typer.Option("--until", help="The same.")] = None,
    duration: Annotated[str | None, typer.Option(help="Instead of --until, such as 8h.")] = None,
) -> None:
    """Have somebody stand in on an on-call schedule."""
    from thalweg.alerts.files import add_schedules, read

    known = read(config, ("store", "schedules"))  # and no secrets of channels
    with _manager(known.get("store", DEFAULT_STORE)) as manager:
        add_schedules(manager, known, str(config))
        made = manager.override(schedule, person, by=by, reason=reason, start=start, end=end, duration=duration)
        typer.echo(f"override {made.id}: {person} from {_time(made.start)} until {_time(made.end)}")


@app.command()
def overrides(store: Store = DEFAULT_STORE) -> None:
    """List who stands in on on-call schedules, and who will."""
    with _manager(store) as manager:
        for one in manager.overrides():
            when = f"{_time(one.start)} – {_time(one.end)}"
            typer.echo(f"{one.id}  {when}  {one.schedule}: {one.person}  {one.by}: {one.reason}")


@app.command("remove-override")
def remove_override(
    id: Annotated[str, typer.Argument(help="The id of an override.")], by: By, store: Store = DEFAULT_STORE
) -> None:
    """End an override, or keep it from beginning."""
    with _manager(store) as manager:
        manager.remove_override(id, by=by)


@app.command("test-channel")
def test_channel(config: Config, name: Annotated[str, typer.Argument(help="A channel of the configuration.")]) -> None:
    """Send a test message to a channel, and say what came of it."""
    import time

    from thalweg.alerts import Alert, Kind, Message, Severity, Status
    from thalweg.alerts.service.server import check as checked
    from thalweg.errors import ConfigurationError

    manager = checked(config)
    if name not in manager.channels:
        raise ConfigurationError(f"there is no channel {name!r}; there are {', '.join(manager.channels)}")
    now = time.time_ns() // 1_000_000
    said = f"Test message, sent by {getpass.getuser()}"
    test = Alert(f"test-{now}", "test", "", said, Severity.INFO, Status.TRIGGERED, "test", {}, now, now, {})
    manager.channel(name).send(Message(f"test-{now}", Kind.TRIGGERED, test))
    typer.echo(f"channel {name!r} has taken the message")
    manager.close(0)


@contextmanager
def _manager(store: str) -> Iterator[AlertManager]:
    """A manager that changes alerts; whoever runs the service or the job delivers what comes of it.

    Raises:
        ConnectorError: there is no such store; looking at one must not make one.
    """
    from thalweg.alerts.manager import AlertManager
    from thalweg.errors import ConnectorError

    file = store.removeprefix("sqlite://").removeprefix("/")
    if store.startswith("sqlite://") and not Path(file).exists():
        raise ConnectorError(f"no alert store at {file}; name one with --store")
    manager = AlertManager(store, deliver=False)
    try:
        yield manager
    finally:
        manager.close(0)


def _found(manager: AlertManager, id: str) -> Alert:
    """The alert of an id, or of the beginning of one among the newest.

    Raises:
        ConfigurationError: there is none, or there are several.
    """
    from thalweg.errors import ConfigurationError

    exact = manager.get(id)
    if exact is not None:
        return exact
    found = [alert for alert in manager.list(limit=10_000) if alert.id.startswith(id)]
    if len(found) != 1:
        raise ConfigurationError(f"there is no alert {id!r}" if not found else f"{len(found)} alerts begin with {id!r}")
    return found[0]


def _say(alert: Alert) -> None:
    typer.echo(f"{alert.id[:12]} {alert.status}: {alert.title}")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
