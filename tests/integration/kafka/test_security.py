"""TLS and SASL against a real broker, rights included; refusals come fast, and secrets are never shown."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from tests.integration.kafka.test_kafka_commands import Shell
from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer, KafkaSecurity, LocalKafka, ProduceError
from thalweg.kafka.admin import Acl
from thalweg.kafka.local_cluster import _free_ports

pytestmark = pytest.mark.kafka
SECRET = "s3cret,=pass"
JAAS = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    admin: KafkaAdmin
    sasl: str
    tls: str
    mutual: str
    ca: Path
    certificate: Path
    key: Path

    def scram(self, user: str = "ada", password: str = SECRET) -> KafkaSecurity:
        return KafkaSecurity("SASL_PLAINTEXT", "SCRAM-SHA-256", username=user, password=password)


def certificates(folder: Path) -> None:
    """A CA, and for broker and client a certificate signed by it."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for who in ("broker", "client"):
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}"
        )
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{who}.csr", "-out", f"{who}.pem", "-days", "2", *signing)
        openssl("pkcs8", "-topk8", "-nocrypt", "-in", f"{who}.key", "-out", f"{who}.p8")
    store = (folder / "broker.p8").read_text() + (folder / "broker.pem").read_text()
    (folder / "broker-store.pem").write_text(store)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with four doors: plain (for set-up), SASL, TLS with SASL, and TLS that wants to see a certificate."""
    folder = tmp_path_factory.mktemp("tls")
    assert shutil.which("openssl"), "these tests make certificates with openssl"
    certificates(folder)
    ports = dict(zip(("SASL", "TLS", "MUTUAL"), _free_ports(3), strict=True))
    kafka = LocalKafka(fast_start=True)
    plain, controller = kafka._ports
    doors = {"PLAINTEXT": plain, **ports}
    protocols = {"PLAINTEXT": "PLAINTEXT", "SASL": "SASL_PLAINTEXT", "TLS": "SASL_SSL", "MUTUAL": "SSL"}
    settings = {
        "listeners": ",".join(f"{d}://127.0.0.1:{p}" for d, p in {**doors, "CONTROLLER": controller}.items()),
        "advertised.listeners": ",".join(f"{door}://127.0.0.1:{port}" for door, port in doors.items()),
        "listener.security.protocol.map": ",".join(
            f"{d}:{p}" for d, p in {**protocols, "CONTROLLER": "PLAINTEXT"}.items()
        ),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    for door in ("sasl", "tls"):
        jaas = f"listener.name.{door}"
        settings |= {
            f"{jaas}.plain.sasl.jaas.config": f'{JAAS}.plain.PlainLoginModule required user_ada="{SECRET}";',
            f"{jaas}.scram-sha-256.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
            f"{jaas}.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
            f"{jaas}.oauthbearer.sasl.jaas.config": (
                f'{JAAS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="ada";'
            ),
        }
    for door in ("tls", "mutual"):
        settings |= {
            f"listener.name.{door}.ssl.keystore.type": "PEM",
            f"listener.name.{door}.ssl.keystore.location": str(folder / "broker-store.pem"),
            f"listener.name.{door}.ssl.truststore.type": "PEM",
            f"listener.name.{door}.ssl.truststore.location": str(folder / "ca.pem"),
        }
    settings["listener.name.mutual.ssl.client.auth"] = "required"
    kafka._settings.update(settings)
    with kafka:
        admin = KafkaAdmin(kafka.bootstrap)
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            admin.set_password("ada", SECRET, mechanism)
        admin.create_acls([Acl("User:ada", "ALL", kind, "*") for kind in ("TOPIC", "GROUP", "TRANSACTIONAL_ID")])
        admin.create_acls([Acl("User:ada", "ALL", "BROKER", "kafka-cluster")])
        admin.create_acls([Acl("User:CN=client", "ALL", kind, "*") for kind in ("TOPIC", "GROUP")])
        sasl, tls, mutual = (f"127.0.0.1:{ports[door]}" for door in ("SASL", "TLS", "MUTUAL"))
        yield Secured(admin, sasl, tls, mutual, folder / "ca.pem", folder / "client.pem", folder / "client.p8")


def test_rights_from_the_shell(secured: Secured) -> None:
    shell = Shell(secured.admin.brokers)
    who = f"User:cli-{uuid.uuid4().hex[:8]}"

    def rights(*arguments: str) -> list[tuple[str, ...]]:
        found = shell.rows("acls", "list", "--principal", who, *arguments)
        return [tuple(row[name] for name in ("access", "operation", "resource", "name", "pattern")) for row in found]

    added = shell("acls", "add", who, "read", "DESCRIBE", "--topic", "orders", "--group", "shop", "--prefixed")
    assert added.count(who) == 4
    shell("acls", "add", who, "WRITE", "-t", "orders", "--deny", "--host", "10.0.0.1")
    shell("acls", "add", who, "CLUSTER_ACTION", "--cluster")
    assert rights("--topic", "orders") == [
        ("allow", "DESCRIBE", "TOPIC", "orders", "prefixed"),
        ("allow", "READ", "TOPIC", "orders", "prefixed"),
        ("deny", "WRITE", "TOPIC", "orders", "literal"),
    ]
    assert rights("-o", "CLUSTER_ACTION") == [("allow", "CLUSTER_ACTION", "CLUSTER", "kafka-cluster", "literal")]
    assert len(rights()) == 6
    assert shell("acls", "remove", "-p", who, "--topic", "none") == "no rights match\n"
    shell("acls", "remove", "--principal", who, "--topic", "orders", given="n\n", fails=True)
    assert len(rights()) == 6
    assert "2 taken away" in shell("acls", "remove", "--principal", who, "--operation", "READ", "--yes")
    assert "4 taken away" in shell("acls", "remove", "--principal", who, given="y\n")
    assert rights() == []
    assert "say which rights" in shell("acls", "remove", "--yes", fails=True)
    assert "say on what" in shell("acls", "add", who, "READ", fails=True)
    assert 'write "User:ada"' in shell("acls", "add", "ada", "READ", "-t", "x", fails=True)
    assert "use one of" in shell("acls", "add", who, "REED", "-t", "x", fails=True)


def test_the_documented_commands_about_rights(secured: Secured) -> None:
    page = (Path(__file__).parents[3] / "docs/kafka.md").read_text()
    commands = [line.split()[1:] for line in page.splitlines() if line.startswith("thalweg acls ")]
    assert [words[1] for words in commands] == ["add", "list", "remove"]
    shell = Shell(secured.admin.brokers)
    for words in commands:
        shell(*words)
    assert secured.admin.acls(resource="TOPIC", name="clicks") == []


def round_trip(secured: Secured, brokers: str, security: KafkaSecurity) -> None:
    topic = f"t-{uuid.uuid4().hex[:8]}"
    secured.admin.create_topic(topic, 1)
    with KafkaProducer(brokers, security=security) as producer:
        producer.send_frame(topic, pl.DataFrame({"value": ["a", "b"]}), format="text")
    with KafkaConsumer(brokers, topic, group_id=topic, security=security, format="text") as consumer:
        found: list[str] = []
        while len(found) < 2:
            found += [record.value for record in [consumer.poll(1)] if record is not None]
    assert found == ["a", "b"]
    assert topic in KafkaAdmin(brokers, security=security).topics()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl(secured: Secured, mechanism: str) -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", mechanism, username="ada", password=SECRET)
    round_trip(secured, secured.sasl, security)
    # The connection of our own speaks it too.
    assert KafkaAdmin(secured.sasl, security=security).log_dirs()


def test_oauthbearer(secured: Secured) -> None:
    more = {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=ada"}
    security = KafkaSecurity("SASL_PLAINTEXT", "OAUTHBEARER", more=more)
    round_trip(secured, secured.sasl, security)
    with pytest.raises(ConfigurationError, match="OAUTHBEARER"):
        KafkaAdmin(secured.sasl, security=security).log_dirs()


def test_tls_with_sasl_and_with_a_certificate(secured: Secured) -> None:
    tls = KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", username="ada", password=SECRET, ca=str(secured.ca))
    round_trip(secured, secured.tls, tls)
    assert KafkaAdmin(secured.tls, security=tls).log_dirs()
    mutual = KafkaSecurity(
        "SSL", ca=secured.ca.read_text(), certificate=secured.certificate.read_text(), key=secured.key.read_text()
    )
    round_trip(secured, secured.mutual, mutual)
    assert "BEGIN" not in repr(mutual)


def test_wrong_credentials_are_told_fast(secured: Secured, caplog: pytest.LogCaptureFixture) -> None:
    wrong = secured.scram(password="not-the-password")
    started = time.monotonic()
    with caplog.at_level(logging.DEBUG, "thalweg.kafka"):
        with (
            pytest.raises(ConnectorError, match=r"credentials"),
            KafkaConsumer(secured.sasl, "t", group_id="g", security=wrong) as consumer,
        ):
            consumer.poll(60)
        with pytest.raises(ConnectorError, match="does not let this client in"):
            KafkaAdmin(secured.sasl, security=wrong, timeout=60).topics()
        producer = KafkaProducer(secured.sasl, security=wrong)
        with pytest.raises(ProduceError, match="does not let this producer in"):
            producer.send("t", b"x").result(60)
        producer.kill()
        producer = KafkaProducer(secured.sasl, security=wrong)
        producer.send_frame("t", pl.DataFrame({"n": [1]}))
        with pytest.raises(ConnectorError, match="does not let this producer in"):
            producer.flush(60)
        producer.kill()
        transactional = KafkaProducer(secured.sasl, security=wrong, transactional_id="t")
        with pytest.raises(ConnectorError, match="does not let this producer in"):
            transactional.init_transactions(60)
        transactional.kill()
        with pytest.raises(ConnectorError, match="does not let this client in"):
            KafkaAdmin(secured.sasl, security=wrong)._connection("127.0.0.1", int(secured.sasl.split(":")[1]))
    assert time.monotonic() - started < 60  # each had a minute to itself
    assert "not-the-password" not in caplog.text


def test_a_certificate_that_is_not_trusted_or_missing(secured: Secured) -> None:
    for brokers, security in (
        (secured.tls, KafkaSecurity("SASL_SSL", "PLAIN", username="ada", password=SECRET)),
        (secured.mutual, KafkaSecurity("SSL", ca=str(secured.ca))),
    ):
        with pytest.raises(ConnectorError, match="does not let this client in"):
            KafkaAdmin(brokers, security=security, timeout=60).topics()


def test_rights_are_granted_listed_and_taken(secured: Secured) -> None:
    admin, topic = secured.admin, f"acl-{uuid.uuid4().hex[:8]}"
    admin.create_topic(topic, 1)
    admin.set_password("bob", "bobs", "SCRAM-SHA-256")
    bob = secured.scram("bob", "bobs")
    granted = [
        Acl("User:bob", "WRITE", "TOPIC", topic[:-2], prefixed=True),
        Acl("User:bob", "DESCRIBE", "TOPIC", topic),
    ]
    admin.create_acls(granted)
    assert sorted(admin.acls(principal="User:bob"), key=str) == sorted(granted, key=str)
    with KafkaProducer(secured.sasl, security=bob, idempotent=False) as producer:
        producer.send(topic, b"x").result(30)
    with KafkaConsumer(secured.sasl, security=bob) as consumer:
        consumer.assign({(topic, 0): 0})
        with pytest.raises(ConnectorError, match="ACLs for reading"):
            consumer.poll(60)
    assert len(admin.delete_acls(principal="User:bob")) == 2
    assert admin.acls(principal="User:bob") == []
    with pytest.raises(ConfigurationError, match="say which rights"):
        admin.delete_acls()
    with pytest.raises(ConfigurationError, match="use one of"):
        admin.create_acls([Acl("User:bob", "JUGGLE", "TOPIC", topic)])
    admin.delete_user("bob", "SCRAM-SHA-256")
    with pytest.raises(ConnectorError, match="does not let this client in"):
        KafkaAdmin(secured.sasl, security=bob, timeout=60).topics()


def test_secrets_in_settings_are_not_shown(secured: Secured) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KafkaProducer("127.0.0.1:9", settings={"ssl.key.pem": "hunter2"}, security=KafkaSecurity("SSL"))
    assert "hunter2" not in str(caught.value)
    hidden = replace(secured.scram(), more={"ssl.keystore.password": "hunter3"})
    assert SECRET not in repr(hidden)
    assert "hunter3" not in repr(hidden)
