"""`thalweg groups`: consumer groups of a Kafka cluster; `thalweg lag`: how far they are behind."""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.kafka_options import AsJson, Cluster, moment, print_rows
from thalweg.cli.options import gathers_options
from thalweg.errors import ConfigurationError
from thalweg.kafka.admin_groups import ResetTarget

app = typer.Typer(help="Consumer groups of a Kafka cluster.", no_args_is_help=True)
Group = Annotated[str, typer.Argument(help="The group's id.")]
_LAG = {
    "group": str,
    "topic": str,
    "partition": int,
    "committed": int,
    "end": int,
    "lag": int,
    "member": str,
}


@gathers_options
def lag(
    cluster: Cluster,
    groups: Annotated[list[str] | None, typer.Argument(help="Groups; none: all of the cluster.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far consumer groups are behind, partition by partition."""
    admin = cluster.admin()
    rows = [
        {
            "group": group,
            "topic": found.topic,
            "partition": found.partition,
            "committed": found.committed,
            "end": found.end,
            "lag": found.lag,
            "member": found.member,
        }
        for group in groups or admin.groups()
        for found in admin.group_lag(group)
    ]
    print_rows(rows, _LAG, as_json=as_json)


@app.command("list")
@gathers_options
def list_(cluster: Cluster, as_json: AsJson = False) -> None:
    """List the consumer groups and their states."""
    found = cluster.admin().groups()
    rows = [{"group": group, "state": state} for group, state in found.items()]
    print_rows(rows, {"group": str, "state": str}, as_json=as_json)


@app.command()
@gathers_options
def describe(cluster: Cluster, group: Group, as_json: AsJson = False) -> None:
    """Show a group's members and what each reads."""
    found = cluster.admin().describe_group(group)
    if not as_json:
        typer.echo(f"{group}: {found.state}, {found.assignor or 'no assignor'}, coordinator {found.coordinator}")
    rows = [
        {
            "client": member.client_id,
            "instance": member.instance_id,
            "host": member.host,
            "partitions": " ".join(f"{topic}[{partition}]" for topic, partition in sorted(member.partitions)),
            "member": member.member_id,
        }
        for member in found.members
    ]
    columns = dict.fromkeys(("client", "instance", "host", "partitions", "member"), str)
    print_rows(rows, columns, as_json=as_json)


@app.command()
@gathers_options
def reset(
    cluster: Cluster,
    group: Group,
    to: Annotated[
        str, typer.Option("--to", help="earliest, latest, an offset, or an ISO time (UTC if it names none).")
    ],
    topic: Annotated[list[str] | None, typer.Option("--topic", "-t", help="Only these; may repeat.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move a group's committed offsets; its members must be stopped."""
    done = cluster.admin().reset_group(group, target(to), topic, dry_run=dry_run)
    rows = [
        {"topic": reset.topic, "partition": reset.partition, "before": reset.before, "after": reset.after}
        for reset in done
    ]
    print_rows(rows, {"topic": str, "partition": int, "before": int, "after": int}, as_json=as_json)


@app.command()
@gathers_options
def delete(
    cluster: Cluster,
    group: Group,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a group with its committed offsets."""
    if not yes:
        typer.confirm(f"delete group {group} with its offsets?", abort=True)
    cluster.admin().delete_group(group)
    typer.echo(f"{group} is deleted")


def target(text: str) -> ResetTarget:
    """What `--to` and `--from` say.

    >>> target("12"), target("latest")
    (12, 'latest')

    Raises:
        ConfigurationError: none of it.
    """
    if text in ("earliest", "latest"):
        return text
    if text.isdigit():
        return int(text)
    found = moment(text)
    if found is None:
        raise ConfigurationError(f"{text!r}: give earliest, latest, an offset or a time such as 2026-01-31T12:00")
    return found
