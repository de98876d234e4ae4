"""Every program and command of docs/kafka.md runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thalweg.cli.main import app
from thalweg.kafka import KafkaAdmin, KafkaConsumer

pytestmark = pytest.mark.kafka
PAGE = Path(__file__).parents[3] / "docs" / "kafka.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def place(kafka: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder with the files that the page names, and the topics that it uses."""
    admin = KafkaAdmin(kafka.bootstrap)
    for topic in ("clicks", "copies"):
        admin.ensure_topic(topic, 2)
    one_broker = blocks("toml")[0].replace("replication = 3", "replication = 1")
    (tmp_path / "topics.toml").write_text(one_broker)
    (tmp_path / "lines.txt").write_text("a:one\nb:two\n")
    (tmp_path / "rows.jsonl").write_text('{"user": "ada"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_KAFKA_BROKERS", kafka.bootstrap)
    return str(kafka.bootstrap)


def test_programs_and_commands(place: str) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block.replace("localhost:9092", place), str(PAGE), "exec"), names)
    assert names["record"] is not None or names["frame"] is not None
    with KafkaConsumer(place, "clicks", group_id="readers", client_id="docs") as consumer:
        while consumer.poll(1) is None:
            pass
        consumer.commit()
    commands = [line for line in blocks("bash")[0].splitlines() if line]
    assert len(commands) == 9
    for command in commands:
        words = shlex.split(command)
        given = None
        if "<" in words:
            given = Path(words.pop(words.index("<") + 1)).read_text()
            words.remove("<")
        result = CliRunner().invoke(app, words[1:], input=given)
        assert result.exit_code == 0, (command, result.output, result.exception)
