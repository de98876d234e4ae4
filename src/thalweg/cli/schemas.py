"""`thalweg schemas list|show|register|check`: the subjects of a schema registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer

from thalweg.cli.topics import show
from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.kafka.schema_registry.client import SchemaRegistryClient
    from thalweg.kafka.schema_registry.schema import Reference, Schema

app = typer.Typer(help="The subjects of a schema registry.", no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option("--registry", help="http://host:8081; without it $THALWEG_SCHEMA_REGISTRY_URL."),
]
Subject = Annotated[str, typer.Argument(help='Such as "orders-value".')]
File = Annotated[Path, typer.Argument(help="The schema: .avsc, .json or .proto.", exists=True, dir_okay=False)]
Type = Annotated[str | None, typer.Option("--type", help="avro, json or protobuf; by the file's name where not given.")]
References = Annotated[
    list[str] | None, typer.Option("--reference", help="name=subject:version of another schema that this one uses.")
]


@app.command("list")
def list_(registry: Url = None) -> None:
    """List the subjects: type, newest version and id, compatibility level."""
    with _client(registry) as client:
        rows = []
        for subject in client.subjects():
            newest = client.latest(subject)
            level = str(client.compatibility(subject))
            rows.append((subject, str(newest.schema.type), str(newest.version), str(newest.id), level))
    names = ("subject", "type", "version", "id", "compatibility")
    show(pl.DataFrame(rows, dict.fromkeys(names, pl.String), orient="row"), numbers=("version", "id"))


@app.command("show")
def show_(
    subject: Subject,
    registry: Url = None,
    version: Annotated[str, typer.Option(help="A number, or latest.")] = "latest",
) -> None:
    """Print a schema, and on standard error its version, id and references."""
    with _client(registry) as client:
        found = client.version(subject, int(version) if version.isdigit() else version)
        versions = client.versions(subject)
    used = "".join(f", uses {r.name} ({r.subject} version {r.version})" for r in found.schema.references)
    typer.echo(f"{subject} version {found.version} of {versions}, id {found.id}, {found.schema.type}{used}", err=True)
    typer.echo(_pretty(found.schema))


@app.command("register")
def register(
    subject: Subject, file: File, registry: Url = None, type: Type = None, reference: References = None
) -> None:
    """Register a schema as the subject's next version, where it is not one of its versions already."""
    with _client(registry) as client:
        schema = _schema(file, type, reference)
        number = client.register(subject, schema)
        version = client.lookup(subject, schema).version
    print(f"{subject} version {version}, id {number}")


@app.command("check")
def check(subject: Subject, file: File, registry: Url = None, type: Type = None, reference: References = None) -> None:
    """Say whether a schema could be the subject's next version; exit code 1 where not, with the reasons."""
    with _client(registry) as client:
        found = client.check(subject, _schema(file, type, reference))
        level = client.compatibility(subject)
    print(f"{'compatible' if found else 'not compatible'} ({level})")
    for reason in found.reasons:
        print(f"  {reason}")
    if not found:
        raise typer.Exit(1)


def _client(url: str | None) -> SchemaRegistryClient:
    from thalweg.kafka.schema_registry.client import SchemaRegistryClient
    from thalweg.kafka.schema_registry.transport import access_from_environment, as_urls

    if url is None:
        return SchemaRegistryClient(access_from_environment())
    return SchemaRegistryClient(as_urls(url))


_BY_SUFFIX = {".avsc": "avro", ".json": "json", ".proto": "protobuf"}


def _schema(file: Path, type: str | None, references: list[str] | None) -> Schema:
    from thalweg.kafka.schema_registry.schema import Schema, SchemaType

    kind = type or _BY_SUFFIX.get(file.suffix)
    if kind is None or kind.upper() not in {str(known) for known in SchemaType}:
        raise ConfigurationError(f"{file}: which language is it? Give --type avro, json or protobuf")
    return Schema(file.read_text(), SchemaType(kind.upper()), tuple(_reference(text) for text in references or ()))


def _reference(text: str) -> Reference:
    from thalweg.kafka.schema_registry.schema import Reference

    name, _, place = text.partition("=")
    subject, _, version = place.rpartition(":")
    if not name or not subject or not version.isdigit():
        raise ConfigurationError(f"reference {text!r}: write name=subject:version")
    return Reference(name, subject, int(version))


def _pretty(schema: Schema) -> str:
    try:
        return json.dumps(json.loads(schema.text), indent=2)
    except ValueError:
        return schema.text  # Protobuf
