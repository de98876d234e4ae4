"""The commands about Kafka, as a shell calls them."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.integration.kafka.commit_tools import read
from thalweg.cli.main import app
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer

pytestmark = pytest.mark.kafka


class Shell:
    def __init__(self, brokers: str) -> None:
        self.environment = {"COLUMNS": "160", "THALWEG_KAFKA_BROKERS": brokers}

    def __call__(self, *arguments: str | Path, given: str | bytes | None = None, fails: bool = False) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=given, env=self.environment)
        if fails:
            assert result.exception is not None
            return str(result.exception)
        assert result.exit_code == 0, (result.output, result.exception)
        return str(result.output)

    def rows(self, *arguments: str | Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]


@pytest.fixture
def shell(kafka: Any) -> Shell:
    return Shell(kafka.bootstrap)


def test_topics_that_go_while_others_are_looked_at(shell: Shell, kafka: Any) -> None:
    admin, done, lasting = KafkaAdmin(kafka.bootstrap), threading.Event(), f"lasting-{uuid.uuid4().hex[:8]}"
    admin.create_topic(lasting, partitions=1)

    def come_and_go() -> None:
        while not done.is_set():
            name = f"brief-{uuid.uuid4().hex[:8]}"
            admin.create_topic(name, partitions=1)
            admin.delete_topic(name)

    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(come_and_go)
        try:
            for _ in range(10):
                assert lasting in [row["topic"] for row in shell.rows("topics", "list")]
        finally:
            done.set()
            others.result()


def test_topics(shell: Shell, kafka: Any, tmp_path: Path) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert (
        shell("topics", "create", name, "--partitions", "2", "-c", "retention.ms=1000") == f"{name} has 2 partitions\n"
    )
    assert {"topic": name, "partitions": 2, "offsets": 0} in shell.rows("topics", "list")
    assert name in shell("topics", "--brokers", kafka.bootstrap)
    assert shell.rows("topics", "describe", name)[1] == {
        "partition": 1, "leader": 0, "replicas": "0", "in_sync": "0", "first": 0, "end": 0,
    }  # fmt: skip
    shell("topics", "alter", name, "-c", "retention.ms=2000", "-c", "cleanup.policy=compact", "--partitions", "3")
    described = shell("topics", "describe", name)
    assert "compact" in described
    assert "2000" in described
    file = tmp_path / "topics.json"
    file.write_text(json.dumps({"topics": {name: {"partitions": 4, "config": {"retention.ms": "3s"}}}}))
    assert shell("topics", "apply", file, "--dry-run").splitlines() == [
        f"~ {name}: partitions: 3 → 4 (keys will go to other partitions)",
        f"~ {name}: retention.ms: 2000 → 3000",
    ]
    shell("topics", "apply", file)
    assert shell("topics", "apply", file) == "the topics are as they should be\n"
    shell("topics", "delete", name, given="n\n", fails=True)
    assert name in shell("topics", "list")
    shell("topics", "delete", name, "--yes")
    assert f"there is no topic '{name}'" in shell("topics", "describe", name, fails=True)


def test_produce_and_consume(shell: Shell, kafka: Any, topic: str, tmp_path: Path) -> None:
    shell("produce", topic, "--key-separator", ":", "-H", "from=cli", given="a:one\n\nb:two:2\nthree\n")
    found = {record.value(): (record.key(), record.headers()) for record in read(kafka.bootstrap, topic)}
    assert found == {
        b"one": (b"a", [("from", b"cli")]),
        b"two:2": (b"b", [("from", b"cli")]),
        b"three": (None, [("from", b"cli")]),
    }
    rows = shell.rows("consume", topic, "--headers")
    assert sorted((row["key"] or "", row["value"]) for row in rows) == [("", "three"), ("a", "one"), ("b", "two:2")]
    assert rows[0]["headers"] == [["from", "cli"]]
    assert len(shell("consume", topic, "-n", "2").splitlines()) == 2
    file = tmp_path / "rows"
    file.write_text('{"id": "x", "n": 1}\n{"id": "y", "n": 2}\n')
    shell("produce", topic, file, "-f", "json", "--key", "id", "--compression", "zstd")
    partition = next(row["partition"] for row in shell.rows("consume", topic) if row["key"] == "x")
    last = shell.rows("consume", topic, "-f", "json", "-p", str(partition))[-1]
    assert last["value"] in ({"id": "x", "n": 1}, {"id": "y", "n": 2})
    bad = [row for row in shell.rows("consume", topic, "-f", "json") if "error" in row]
    assert len(bad) == 3
    assert bad[0]["error"].startswith("MalformedJson")
    assert "MalformedJson" in shell("consume", topic, "-f", "json")
    assert shell("consume", topic, "--from", "latest") == ""
    assert len(shell.rows("consume", topic, "--from", "2020-01-01")) == 5
    assert shell.rows("consume", topic, "--from", "2120-01-01T00:00+02:00") == []


def test_what_can_not_be_produced_or_consumed(shell: Shell, topic: str, tmp_path: Path) -> None:
    assert "'{\"n\": ' can't be sent: MalformedJson" in shell(
        "produce", topic, "-f", "json", given='{"n": \n', fails=True
    )
    assert "there is no file" in shell("produce", topic, tmp_path / "none", fails=True)
    assert "write name=value" in shell("produce", topic, "-H", "x", given="a", fails=True)
    assert "there is no topic" in shell("consume", f"none-{topic}", fails=True)
    assert "give earliest, latest" in shell("consume", topic, "--from", "noon", fails=True)


def test_groups_and_lag(shell: Shell, kafka: Any, topic: str) -> None:
    group = f"cli-{uuid.uuid4().hex[:8]}"
    with KafkaProducer(kafka.bootstrap) as producer:
        for n in range(6):
            producer.send(topic, b"%d" % n, partition=0)
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, client_id="me", auto_commit=False) as consumer:
        while consumer.poll(1) is None:
            pass
        consumer.commit({(topic, 0): 2})
        assert group in shell("groups", "list")
        described = shell("groups", "describe", group)
        assert f"{group}: STABLE, cooperative-sticky, coordinator 0" in described
        assert "me" in described
        first = shell.rows("lag", group)[0]
    assert first == {
        "group": group, "topic": topic, "partition": 0, "committed": 2, "end": 6, "lag": 4, "member": "me",
    }  # fmt: skip
    assert shell.rows("groups", "reset", group, "--to", "earliest", "--dry-run")[0]["after"] == 0
    assert shell.rows("groups", "reset", group, "--to", "4", "-t", topic)[0] == {
        "topic": topic, "partition": 0, "before": 2, "after": 4,
    }  # fmt: skip
    assert "4" in shell("lag", group)
    assert any(row["group"] == group for row in shell.rows("lag"))
    assert "give earliest" in shell("groups", "reset", group, "--to", "soon", fails=True)
    shell("groups", "delete", group, "--yes")
    assert group not in shell("groups", "list")


def test_quotas(shell: Shell) -> None:
    user = f"cli-{uuid.uuid4().hex[:8]}"

    def mine() -> list[tuple[str | None, str, str]]:
        found = [row for row in shell.rows("quotas", "list") if row["user"] == user]
        return [(row["client-id"], row["limit"], row["value"]) for row in found]

    said = shell("quotas", "set", "--user", user, "producer_byte_rate=1e6", "request_percentage=50")
    assert said == f"user {user}: producer_byte_rate 1000000, request_percentage 50\n"
    shell("quotas", "set", "--user", user, "--default", "client-id", "consumer_byte_rate=2000")
    expected = [
        (None, "producer_byte_rate", "1000000"), (None, "request_percentage", "50"),
        ("<default>", "consumer_byte_rate", "2000"),
    ]  # fmt: skip
    while mine() != expected:  # the broker hears of it a moment later
        pass
    assert user in shell("quotas", "list")
    shell("quotas", "remove", "--user", user, "request_percentage")
    while len(mine()) != 2:
        pass
    assert "has no limit request_percentage" in shell("quotas", "remove", "-u", user, "request_percentage", fails=True)
    shell("quotas", "remove", "--user", user)
    shell("quotas", "remove", "--user", user, "-d", "client-id")
    while mine():
        pass
    assert "has no limits" in shell("quotas", "remove", "--user", user, fails=True)
    assert "say whose" in shell("quotas", "set", "producer_byte_rate=1", fails=True)
    assert "give a number" in shell("quotas", "set", "-u", user, "producer_byte_rate=fast", fails=True)
    assert "write name=value" in shell("quotas", "set", "-u", user, "producer_byte_rate", fails=True)
    assert "not both" in shell("quotas", "set", "-u", user, "-d", "user", "producer_byte_rate=1", fails=True)
    assert "the broker refuses" in shell("quotas", "set", "-u", user, "no_such_limit=1", fails=True)


def test_log_dirs(shell: Shell, topic: str) -> None:
    shell("produce", topic, given="x" * 5000 + "\n")
    (folder,) = shell.rows("logdirs")
    assert (folder["broker"], folder["partitions"] >= 4, folder["bytes"] >= 5000) == (0, True, True)
    parts = shell.rows("logdirs", topic)
    assert [(part["topic"], part["partition"], part["folder"]) for part in parts] == [
        (topic, partition, folder["folder"]) for partition in range(4)
    ]
    assert sum(part["bytes"] for part in parts) >= 5000
    assert "there is no topic" in shell("logdirs", f"none-{topic}", fails=True)


def test_a_cluster_without_an_authorizer_says_so(shell: Shell) -> None:
    assert "has no authorizer" in shell("acls", "list", fails=True)
