"""`thalweg dlq` on a real broker, from the first look to the replay, as a shell calls it."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dead_letter.test_dead_letter_queue import dead_letters
from tests.integration.kafka.test_kafka_commands import Shell
from thalweg.kafka import KafkaProducer

pytestmark = pytest.mark.kafka


def in_terminal(brokers: str, editor: str, *arguments: str) -> str:
    """What the command says where there is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "THALWEG_KAFKA_BROKERS": brokers, "EDITOR": editor}
    environment.pop("VISUAL", None)
    command = [sys.executable, "-m", "thalweg.cli", "dlq", *arguments]
    done = subprocess.run(
        command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    return done.stdout


@pytest.mark.slow
def test_letters_from_the_first_look_to_the_replay(kafka: Any, new_topic: Callable[..., str], tmp_path: Path) -> None:
    topic, shell = new_topic(partitions=1), Shell(kafka.bootstrap)
    dead_letters(kafka, topic)  # a, b and c
    mine = [row for row in shell.rows("dlq", "list") if row["topic"] == topic]
    assert [(row["error"], row["state"], row["letters"]) for row in mine] == [("ValueError", "open", 3)]
    assert topic in shell("dlq", "list")
    assert f"{topic}[0] offset 1  ValueError" in shell("dlq", "show", topic)
    whole = shell("dlq", "show", topic, "0:0")
    assert "header own: 1" in whole
    assert "Traceback" in whole
    # Looked at: what is wrong, and where one goes astray.
    assert "did you mean" in shell("dlq", "show", topic[:-1], fails=True)
    assert "there are 3, 0:" in shell("dlq", "show", topic, "0:99", fails=True)
    assert "use one of open" in shell("dlq", "show", topic, "--state", "new", fails=True)
    assert "is for one letter" in shell("dlq", "show", topic, "--payload", fails=True)
    assert "not both" in shell("dlq", "edit", topic, "0:0", "--value", "x", "--file", __file__, fails=True)
    assert "no terminal" in shell("dlq", "edit", topic, "0:0", fails=True)
    # Mended: in the editor, by a value that is not text, and one given up.
    assert "is edited" in in_terminal(kafka.bootstrap, "sed -i s/a/mended/", "edit", topic, "0:0")
    assert "nothing was changed" in in_terminal(kafka.bootstrap, "true", "edit", topic, "0:0")
    raw = tmp_path / "raw"
    raw.write_bytes(b"\0\xff")
    places = [row["id"] for row in shell.rows("dlq", "show", topic)]
    assert places[0] == "0:0"
    shell("dlq", "edit", topic, places[1], "--file", raw)
    assert "not text" in in_terminal(kafka.bootstrap, "true", "edit", topic, places[1])
    edited = shell.rows("dlq", "show", topic, places[1])[0]
    assert (edited["state"], edited["payload"], base64.b64decode(edited["payload_base64"])) == (
        "edited", None, b"\0\xff",
    )  # fmt: skip
    assert "there is no dead letter" in shell("dlq", "discard", topic, places[2], "0:99", fails=True)
    assert shell("dlq", "discard", topic, places[2]) == "1 letter is discarded\n"
    # Replayed: after one that ended half-way, and never twice.
    crashed = KafkaProducer(kafka.bootstrap, transactional_id=f"thalweg-dlq-{topic}")
    crashed.init_transactions()
    crashed.begin_transaction()
    crashed.send(topic, b"half")
    assert shell("dlq", "replay", topic, "--dry-run") == f"2 letters would be replayed to {topic}\n"
    answer = json.loads(shell("dlq", "replay", topic, *places, "--json"))
    assert answer == {
        "replayed": places[:2], "skipped": {places[2]: "it is discarded already"}, "dry_run": False,
    }  # fmt: skip
    crashed.kill()
    assert shell("dlq", "replay", topic) == f"0 letters were replayed to {topic}\n"
    assert "0:0 not: it is replayed already" in shell("dlq", "replay", topic, "0:0")
    assert "is replayed already" in shell("dlq", "edit", topic, "0:0", "--value", "x", fails=True)
    found = sorted(shell.rows("consume", topic), key=lambda row: row["offset"])
    assert [row.get("value") for row in found] == ["a", "b", "c", "mended", None]  # the last is no text
    states = {row["state"]: row["letters"] for row in shell.rows("dlq", "list") if row["topic"] == topic}
    assert states == {"replayed": 2, "discarded": 1}
