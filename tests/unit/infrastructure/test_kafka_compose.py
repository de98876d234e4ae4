"""The compose file of the Kafka cluster says what the documentation promises."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3] / "infrastructure" / "kafka-cluster"
FILE = FOLDER / "docker-compose.kafka.yml"
BROKERS = ("kafka-1", "kafka-2", "kafka-3")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def test_three_brokers_that_agree_on_who_they_are(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ids = set()
    for name in BROKERS:
        environment = services[name]["environment"]
        number = environment["KAFKA_NODE_ID"]
        ids.add(number)
        assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
        assert f"{number}@{name}:29093" in environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].split(",")
        assert len(base64.urlsafe_b64decode(environment["CLUSTER_ID"] + "==")) == 16
        listeners = dict(each.split("://") for each in environment["KAFKA_LISTENERS"].split(","))
        advertised = dict(each.split("://") for each in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
        assert advertised["INTERNAL"] == f"{name}:19092"
        # What a client outside is told to come to is what is mapped to the listener.
        assert f"{advertised['EXTERNAL'].split(':')[1]}{listeners['EXTERNAL']}" in services[name]["ports"]
        known = dict(each.split(":") for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
        assert listeners.keys() == known.keys()
    assert ids == {1, 2, 3}
    ports = [port.split(":")[0] for service in services.values() for port in service["ports"]]
    assert len(set(ports)) == len(ports)


def test_a_lost_broker_loses_nothing(compose: dict[str, Any]) -> None:
    for name in BROKERS:
        environment = compose["services"][name]["environment"]
        assert environment["KAFKA_DEFAULT_REPLICATION_FACTOR"] == 3
        assert environment["KAFKA_MIN_INSYNC_REPLICAS"] == 2
        assert environment["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == 3
        assert environment["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == 3
        assert environment["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == 2
        assert environment["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        assert environment["KAFKA_NUM_PARTITIONS"] == 12
        assert environment["KAFKA_COMPRESSION_TYPE"] == "snappy"
        assert environment["KAFKA_LOG_RETENTION_HOURS"] == 7 * 24
        data = f"{name}-data:{environment['KAFKA_LOG_DIRS']}"
        assert data in compose["services"][name]["volumes"]
        assert f"{name}-data" in compose["volumes"]


def test_every_service_is_watched_and_the_page_is_on_8080(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services.keys() == {*BROKERS, "schema-registry", "kafka-ui"}
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD-SHELL", name
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest")
        assert service["networks"] == ["kafka"]
        for other, condition in service.get("depends_on", {}).items():
            assert other in services
            assert condition == {"condition": "service_healthy"}
    assert "8080:8080" in services["kafka-ui"]["ports"]
    assert services["kafka-ui"]["environment"]["KAFKA_CLUSTERS_0_SCHEMAREGISTRY"].startswith("http://schema-registry:")


def test_the_script_is_where_the_container_looks_for_it(compose: dict[str, Any]) -> None:
    mounts = [volume.split(":") for volume in compose["services"]["kafka-1"]["volumes"]]
    source = next(source for source, target, *_ in mounts if target == "/init-topics.sh")
    assert (FOLDER / source).is_file()
    subprocess.run(["bash", "-n", str(FOLDER / source)], check=True)


@pytest.mark.slow
def test_the_compose_specification_accepts_it(tmp_path: Path) -> None:
    go = shutil.which("go")
    assert go is not None, "the validator of the Compose specification needs Go"
    environment = {"PATH": f"{Path(go).parent}:/usr/bin:/bin", "HOME": str(Path.home()), "GOBIN": str(tmp_path)}
    tool = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
    subprocess.run([go, "install", tool], env=environment, check=True, capture_output=True)
    done = subprocess.run([tmp_path / "cmd", str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "kafka-3" in done.stdout
