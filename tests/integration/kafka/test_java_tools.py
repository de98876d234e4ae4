"""Java's own tools on the same cluster: keys on the same partitions, groups that both understand."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka.commit_tools import read
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from thalweg.kafka._local_install import KAFKA_VERSION, find_runtime
from thalweg.kafka.partitioners import partition_for

pytestmark = pytest.mark.kafka


def java(main: str, *arguments: str, given: str = "") -> str:
    command = find_runtime(KAFKA_VERSION).command(
        f"tool-{uuid.uuid4().hex[:6]}",
        Path(tempfile.gettempdir()),
        ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"],
        f"org.apache.kafka.tools.{main}",
        list(arguments),
    )
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_java_puts_keys_on_the_same_partitions(kafka: Any, topic: str) -> None:
    keys = [f"k{n}" * (n % 9 + 1) for n in range(300)] + ["ü", "日本", "a b"]
    java(
        "ConsoleProducer",
        *("--bootstrap-server", kafka.bootstrap, "--topic", topic),
        *("--property", "parse.key=true", "--property", "key.separator=:"),
        given="".join(f"{key}:java\n" for key in keys),
    )
    with KafkaProducer(kafka.bootstrap) as producer:
        for key in keys:
            producer.send(topic, b"python", key=key)
    places: dict[bytes, set[int]] = {}
    for record in read(kafka.bootstrap, topic):
        places.setdefault(record.key(), set()).add(record.partition())
    assert places == {key.encode(): {partition_for(key.encode(), 4)} for key in keys}


def test_groups_are_seen_and_moved_by_javas_tool(kafka: Any, topic: str) -> None:
    group = f"java-{uuid.uuid4().hex[:8]}"
    with KafkaProducer(kafka.bootstrap) as producer:
        for n in range(8):
            producer.send(topic, b"%d" % n, partition=1)
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, client_id="ours", auto_commit=False) as consumer:
        while consumer.poll(1) is None:
            pass
        consumer.commit({(topic, 1): 3})
        shown = java(
            "consumer.group.ConsumerGroupCommand", "--bootstrap-server", kafka.bootstrap, "--describe", "--group", group
        )
    (line,) = (line.split() for line in shown.splitlines() if line.split()[:3] == [group, topic, "1"])
    assert line[3:6] == ["3", "8", "5"]
    assert "ours" in shown
    java(
        "consumer.group.ConsumerGroupCommand", "--bootstrap-server", kafka.bootstrap, "--group", group,
        "--reset-offsets", "--to-offset", "6", "--topic", topic, "--execute",
    )  # fmt: skip
    assert KafkaAdmin(kafka.bootstrap).group_offsets(group)[topic, 1] == 6
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group) as consumer:
        record = None
        while record is None:
            record = consumer.poll(1)
    assert record.value == b"6"
