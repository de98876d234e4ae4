"""`thalweg schemas` against a real registry."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from typer.testing import CliRunner

from thalweg.cli.main import app as command_line
from thalweg.kafka.schema_registry import SchemaRegistryClient


def test_schemas_are_registered_shown_and_checked(registry_url: str, tmp_path: Path) -> None:
    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(command_line, ["schemas", *arguments, "--registry", registry_url])
        assert done.exit_code == code, done.output
        return done.output

    def file(name: str, *fields: dict[str, object]) -> str:
        schema = {"type": "record", "name": "Order", "fields": list(fields)}
        (tmp_path / name).write_text(json.dumps(schema))
        return str(tmp_path / name)

    subject = f"orders-{uuid.uuid4().hex[:8]}-value"
    first = file("first.avsc", {"name": "id", "type": "int"})
    assert f"{subject} version 1" in call("register", subject, first)
    more = file("more.avsc", {"name": "id", "type": "int"}, {"name": "note", "type": "string", "default": ""})
    broken = file("broken.avsc", {"name": "id", "type": "int"}, {"name": "note", "type": "string"})
    SchemaRegistryClient(registry_url).set_compatibility("BACKWARD", subject)
    assert "compatible (BACKWARD)" in call("check", subject, more)
    assert "not compatible" in call("check", subject, broken, code=1)
    call("register", subject, more)
    line = next(line for line in call("list").splitlines() if line.startswith(subject))
    assert line.split()[1:3] == ["AVRO", "2"]
    shown = call("show", subject, "--version", "1")
    assert json.loads(shown[shown.index("{") :]) == json.loads(Path(first).read_text())
    assert '"note"' in call("show", subject)
