"""Dead letters of an embedded log: looked at, edited, replayed once."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from thalweg.cli.main import app as command_line
from thalweg.connectors.sqlite.letters import EmbeddedLetters
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka.dead_letter import DeadLetterQueue
from thalweg.streams import App


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with six events of which two are no JSON and one has a wrong type, read by a job."""
    file = tmp_path / "data.db"
    with EmbeddedLog(file) as log:
        log.append_records(
            "in", [b'{"n": 1}', b"{broken", b'{"n": "x"}', b'{"n": 2}', b"[", b'{"n": 3}'], keys=list("abcdef")
        )
    app = App("job", broker=f"sqlite:///{file}")
    app.stream("in", schema={"n": int}).to("out")
    app.run(until_caught_up=True)
    return file


def test_letters_say_where_they_are_from_and_why(path: Path) -> None:
    with EmbeddedLog(path) as log:
        queue = DeadLetterQueue(EmbeddedLetters(log), "in")
        letters = queue.letters()
        assert [(each.topic, each.offset, each.error_class, each.state) for each in letters] == [
            ("in", 1, "MalformedJson", "open"), ("in", 2, "WrongType", "open"), ("in", 4, "MalformedJson", "open"),
        ]  # fmt: skip
        assert [each.payload for each in letters] == [b"{broken", b'{"n": "x"}', b"["]
        assert [each.key for each in letters] == [b"b", b"c", b"e"]
        assert queue.summary()["letters"].sum() == 3
        assert [each.offset for each in queue.letters(error_class="WrongType")] == [2]
        with pytest.raises(ConfigurationError, match="no dead letter '9:9'"):
            queue.letter("9:9")
        with pytest.raises(ConnectorError, match="no dead letters of 'out'"):
            DeadLetterQueue(EmbeddedLetters(log), "out").letters()


def test_a_letter_is_edited_and_replayed_once(path: Path) -> None:
    with EmbeddedLog(path) as log:
        queue = DeadLetterQueue(EmbeddedLetters(log), "in")
        first, second, third = queue.letters()
        queue.edit(first.id, b'{"n": 10}')
        assert queue.letter(first.id).payload == b'{"n": 10}'
        queue.discard(third.id)
        with pytest.raises(ConfigurationError, match="discarded already"):
            queue.edit(third.id, b"x")
        assert queue.replay(dry_run=True).letters == (first.id, second.id)
        assert queue.replay([first.id, third.id]).skipped == {third.id: "it is discarded already"}
        assert queue.replay([first.id]).letters == ()
        assert queue.replay().letters == (second.id,)
        assert queue.replay().letters == ()
        new = log.records("in", start=6)
        assert new["value"].to_list() == [b'{"n": 10}', b'{"n": "x"}']
        assert new["key"].to_list() == [b"b", b"c"]
        assert new["headers"][0][0]["value"] == f"in.dlq:{first.id}".encode()
        assert [each.state for each in queue.letters()] == ["replayed", "replayed", "discarded"]
    app = App("job", broker=f"sqlite:///{path}")
    app.stream("in", schema={"n": int}).to("out")
    app.run(until_caught_up=True)
    with EmbeddedLog(path) as log:
        assert log.read("out", schema={"n": pl.Int64})["n"].to_list() == [1, 2, 3, 10]


def test_replays_at_the_same_time_send_each_letter_once(path: Path) -> None:
    def replay() -> None:
        with EmbeddedLog(path) as log:
            DeadLetterQueue(EmbeddedLetters(log), "in").replay(to="again")

    with EmbeddedLog(path) as log:
        log.ensure_topic("again")
    threads = [threading.Thread(target=replay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with EmbeddedLog(path) as log:
        assert sorted(log.records("again")["value"]) == [b"[", b'{"n": "x"}', b"{broken"]


def test_the_command_line_edits_and_replays(path: Path) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(command_line, ["dlq", *arguments, "--log", str(path)])
        assert done.exit_code == 0, done.output
        return done.output

    assert "MalformedJson" in call("list")
    assert "in[0] offset 1" in call("show", "in")
    assert "key: b" in call("show", "in", "0:0")
    assert '"payload": "{broken"' in call("show", "in", "0:0", "--json")
    call("edit", "in", "0:0", "--value", '{"n": 7}')
    assert "[edited]" in call("show", "in", "0:0")
    assert "1 letter would be replayed" in call("replay", "in", "0:0", "--dry-run")
    assert "1 letter was replayed to in" in call("replay", "in", "0:0")
    assert "replayed already" in call("replay", "in", "0:0")
    call("discard", "in", "0:1")
    assert "1 letter was replayed" in call("replay", "in")
    assert "discarded" in call("list")
