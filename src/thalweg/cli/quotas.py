"""`thalweg quotas list|set|remove`: how much users, clients and addresses may take of a Kafka cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from thalweg.cli.kafka_options import AsJson, Cluster, print_rows, settings_of
from thalweg.cli.options import gathers_options
from thalweg.errors import ConfigurationError

app = typer.Typer(help="Quotas of users, clients and addresses on a Kafka cluster.", no_args_is_help=True)

_KINDS = ("user", "client-id", "ip")
_DEFAULT = "<default>"


@dataclass(frozen=True, slots=True)
class Entity:
    """Whose limits."""

    user: Annotated[str | None, typer.Option("--user", "-u", help="A user's name, without User:.")] = None
    client_id: Annotated[str | None, typer.Option("--client-id", "-c", help="A client's id.")] = None
    ip: Annotated[str | None, typer.Option("--ip", help="An address.")] = None
    default: Annotated[
        list[str] | None,
        typer.Option("--default", "-d", help="user, client-id or ip: of those without a quota of their own."),
    ] = None

    def named(self) -> dict[str, str | None]:
        """As `KafkaAdmin` has it; None stands for the default one.

        Raises:
            ConfigurationError: none is named, or one twice.
        """
        given = dict(zip(_KINDS, (self.user, self.client_id, self.ip), strict=True))
        found: dict[str, str | None] = {kind: name for kind, name in given.items() if name is not None}
        for kind in self.default or ():
            if kind not in _KINDS:
                raise ConfigurationError(f"--default {kind}: use one of {', '.join(_KINDS)}")
            if kind in found:
                raise ConfigurationError(f"give --{kind} or --default {kind}, not both")
            found[kind] = None
        if not found:
            raise ConfigurationError("say whose: --user, --client-id, --ip, or --default user|client-id|ip")
        return found


@app.command("list")
@gathers_options
def list_(cluster: Cluster, as_json: AsJson = False) -> None:
    """List all limits."""
    rows = [
        {**{kind: _name(quota.entity, kind) for kind in _KINDS}, "limit": limit, "value": _shown(value)}
        for quota in cluster.admin().quotas()
        for limit, value in sorted(quota.limits.items())
    ]
    rows.sort(key=lambda row: [text or "" for text in row.values()])
    print_rows(rows, dict.fromkeys((*_KINDS, "limit", "value"), str), as_json=as_json)


@app.command("set")
@gathers_options
def set_(
    cluster: Cluster,
    entity: Entity,
    limits: Annotated[
        list[str],
        typer.Argument(
            help="name=number: producer_byte_rate, consumer_byte_rate (bytes a second and broker), request_percentage, "
            "controller_mutation_rate, connection_creation_rate (of addresses)."
        ),
    ],
) -> None:
    """Set limits; others of the same user, client or address stay."""
    named = entity.named()
    wanted = {name: _number(name, value) for name, value in settings_of(limits).items()}
    cluster.admin().set_quota(named, wanted)
    typer.echo(f"{_words(named)}: {', '.join(f'{name} {_shown(value)}' for name, value in wanted.items())}")


@app.command()
@gathers_options
def remove(
    cluster: Cluster,
    entity: Entity,
    limits: Annotated[list[str] | None, typer.Argument(help="Which limits; none: all that there are.")] = None,
) -> None:
    """Take limits away."""
    named = entity.named()
    admin = cluster.admin()
    there = {limit for quota in admin.quotas() if quota.entity == named for limit in quota.limits}
    if missing := [limit for limit in limits or () if limit not in there]:
        raise ConfigurationError(f"{_words(named)} has no limit {', '.join(missing)}")
    if not there:
        raise ConfigurationError(f"{_words(named)} has no limits")
    gone = sorted(limits or there)
    admin.set_quota(named, dict.fromkeys(gone))
    typer.echo(f"{_words(named)}: {', '.join(gone)} taken away")


def _number(name: str, value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError:
        raise ConfigurationError(f"{name}={value or ''}: give a number; `quotas remove` takes a limit away") from None


def _shown(value: float) -> str:
    return f"{value:.15g}"


def _name(entity: Mapping[str, str | None], kind: str) -> str | None:
    return (entity[kind] or _DEFAULT) if kind in entity else None


def _words(entity: Mapping[str, str | None]) -> str:
    return ", ".join(f"{kind} {name or _DEFAULT}" for kind, name in entity.items())
