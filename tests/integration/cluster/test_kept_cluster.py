"""`thalweg cluster`, and the topics' script of the compose file, on three real brokers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thalweg.cli.main import app as command_line
from thalweg.errors import ConfigurationError
from thalweg.kafka import KafkaAdmin, KafkaProducer
from thalweg.kafka._local_install import JavaRuntime, find_runtime
from thalweg.kafka.kept_cluster import KeptCluster

SCRIPT = Path(__file__).parents[3] / "infrastructure" / "kafka-cluster" / "init-topics.sh"
DAY = 24 * 60 * 60 * 1000


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(command_line, ["cluster", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def make_topics(bootstrap: str) -> str:
    """Runs the script with the topic tool from Maven."""
    runtime = find_runtime()
    assert isinstance(runtime, JavaRuntime)
    tool = f"{runtime.java} -Xmx128m -XX:TieredStopAtLevel=1 -cp {runtime.jars}/* org.apache.kafka.tools.TopicCommand"
    environment = {**os.environ, "BOOTSTRAP": bootstrap, "KAFKA_TOPICS": tool}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_three_brokers_go_up_and_down_with_their_data(tmp_path: Path) -> None:
    folder = str(tmp_path / "cluster")
    try:
        bootstrap = call("up", "--folder", folder, "--heap", "256m").split()[-1]
        assert len(bootstrap.split(",")) == 3
        assert {"events", "events.dlq", "aggregates", "alerts", "audit"} <= set(make_topics(bootstrap).split())
        make_topics(bootstrap)  # a second time changes nothing
        admin = KafkaAdmin(bootstrap)
        for topic, days in (("events", 7), ("audit", 30)):
            found = admin.describe(topic)
            assert (found.partitions, found.replication) == (12, 3)
            wanted = {
                "min.insync.replicas": "2", "compression.type": "snappy", "retention.ms": str(days * DAY),
            }  # fmt: skip
            assert {name: found.config[name] for name in wanted} == wanted
        with KafkaProducer(bootstrap) as producer:
            producer.send("events", b"kept", key=b"k").result(30)
        assert "have all replicas in sync" in call("status", "--folder", folder)
        running = KeptCluster(Path(folder)).status().brokers
        assert running[1].pid is not None
        os.kill(running[1].pid, signal.SIGKILL)
        assert "ended" in call("status", "--folder", folder, code=1)
        call("up", "--folder", folder)
        pids = [broker.pid for broker in KeptCluster(Path(folder)).status().brokers]
        assert [pids[0], pids[2]] == [running[0].pid, running[2].pid]  # those that ran were left alone
        assert pids[1] not in (None, running[1].pid)
        assert "3 brokers have ended" in call("down", "--folder", folder)
        assert "does not answer" in call("status", "--folder", folder, code=1)
        assert call("up", "--folder", folder).split()[-1] == bootstrap
        assert sum(admin.offsets("events", latest=True).values()) == 1
    finally:
        call("down", "--folder", folder, "--purge")
    assert not Path(folder).exists()


def test_a_folder_without_a_cluster_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no cluster in"):
        KeptCluster(tmp_path).status()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not empty"):
        KeptCluster(tmp_path).up()
    assert (tmp_path / "notes.txt").exists()
