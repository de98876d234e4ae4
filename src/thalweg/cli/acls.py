"""`thalweg acls list|add|remove`: who may do what on a Kafka cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.kafka_options import AsJson, Cluster, print_rows
from thalweg.cli.options import gathers_options
from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.kafka.admin import Acl

app = typer.Typer(help="Access rights (ACLs) on a Kafka cluster that has an authorizer.", no_args_is_help=True)

_EVERY = "*"
_CLUSTER = ("BROKER", "kafka-cluster")
_COLUMNS = dict.fromkeys(("principal", "access", "operation", "resource", "name", "pattern", "host"), str)
Operations = Annotated[
    list[str], typer.Argument(help="READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, CLUSTER_ACTION … or ALL.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the rights are about."""

    topic: Annotated[list[str] | None, typer.Option("--topic", "-t", help="A topic, * for all; may repeat.")] = None
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A consumer group; may repeat.")] = None
    transactional_id: Annotated[
        list[str] | None, typer.Option("--transactional-id", help="A producer's transactional id; may repeat.")
    ] = None
    on_cluster: Annotated[bool, typer.Option("--cluster", help="The cluster as a whole.")] = False

    def named(self) -> list[tuple[str, str]]:
        """Kind and name of each."""
        kinds = {"TOPIC": self.topic, "GROUP": self.group, "TRANSACTIONAL_ID": self.transactional_id}
        found = [(kind, name) for kind, names in kinds.items() for name in names or ()]
        return [*found, _CLUSTER] if self.on_cluster else found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rights; what is not given matches all."""

    principal: Annotated[str | None, typer.Option("--principal", "-p", help="Only of this one: User:ada.")] = None
    operation: Annotated[str | None, typer.Option("--operation", "-o", help="Only this one, such as READ.")] = None


@app.command("list")
@gathers_options
def list_(cluster: Cluster, resources: Resources, filter: Filter, as_json: AsJson = False) -> None:
    """List the rights that match; all of them where nothing is named."""
    print_rows([_row(acl) for acl in _matching(cluster, resources, filter)], _COLUMNS, as_json=as_json)


@app.command()
@gathers_options
def add(
    cluster: Cluster,
    resources: Resources,
    principal: Annotated[str, typer.Argument(help='Whom: "User:ada", "User:*" for everybody.')],
    operations: Operations,
    prefixed: Annotated[bool, typer.Option("--prefixed", help="The names are the beginnings of names.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="Forbid it: that beats any right.")] = False,
    host: Annotated[str, typer.Option("--host", help="Only from this address.")] = _EVERY,
) -> None:
    """Grant rights on resources, or (--deny) forbid them; one that is there already stays."""
    from thalweg.kafka.admin import Acl

    named = resources.named()
    if not named:
        raise ConfigurationError("say on what: --topic, --group, --transactional-id or --cluster")
    if ":" not in principal:
        raise ConfigurationError(f'{principal!r} is no principal: write "User:{principal}"')
    made = [
        Acl(principal, operation.upper(), kind, name, prefixed, host, not deny)
        for kind, name in named
        for operation in operations
    ]
    cluster.admin().create_acls(made)
    print_rows([_row(acl) for acl in made], _COLUMNS, as_json=False)


@app.command()
@gathers_options
def remove(cluster: Cluster, resources: Resources, filter: Filter, yes: Yes = False) -> None:
    """Take away the rights that match: of a principal, an operation or resources. At least one must be given."""
    if not resources.named() and filter == Filter():
        raise ConfigurationError(
            "say which rights to take away: --principal, --operation, --topic, --group, --transactional-id or --cluster"
        )
    found = list(_matching(cluster, resources, filter))
    if not found:
        typer.echo("no rights match")
        return
    print_rows([_row(acl) for acl in found], _COLUMNS, as_json=False)
    if not yes:
        typer.confirm(f"take these {len(found)} away?", abort=True)
    admin = cluster.admin()
    for given in _filters(resources, filter):
        admin.delete_acls(**given)
    typer.echo(f"{len(found)} taken away")


def _matching(cluster: Cluster, resources: Resources, filter: Filter) -> Iterable[Acl]:
    admin = cluster.admin()
    found = [acl for given in _filters(resources, filter) for acl in admin.acls(**given)]
    return dict.fromkeys(found)  # two filters may find the same one


def _filters(resources: Resources, filter: Filter) -> Iterator[dict[str, Any]]:
    shared = {"principal": filter.principal, "operation": filter.operation}
    named: list[dict[str, Any]] = [{"resource": kind, "name": name} for kind, name in resources.named()]
    for each in named or [{}]:
        yield each | shared


def _row(acl: Acl) -> dict[str, str]:
    return {
        "principal": acl.principal,
        "access": "allow" if acl.allow else "deny",
        "operation": acl.operation,
        "resource": "CLUSTER" if acl.resource == _CLUSTER[0] else acl.resource,
        "name": acl.name,
        "pattern": "prefixed" if acl.prefixed else "literal",
        "host": acl.host,
    }
