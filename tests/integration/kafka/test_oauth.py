"""OAUTHBEARER: a broker that checks signatures, tokens from an OIDC endpoint or a function, and refusals."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.servers.identity import IdentityProvider
from thalweg.connectors.kafka import KafkaBroker
from thalweg.errors import ConnectorError
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer, KafkaSecurity, LocalKafka
from thalweg.kafka.local_cluster import _free_ports
from thalweg.streams import App

pytestmark = pytest.mark.kafka
SECRET = "client-s3cret"
MODULE = "org.apache.kafka.common.security.oauthbearer"


@dataclass(frozen=True)
class Guarded:
    identity: IdentityProvider
    admin: KafkaAdmin
    brokers: str

    def oidc(self, secret: str = SECRET) -> KafkaSecurity:
        return KafkaSecurity(
            "SASL_PLAINTEXT", "OAUTHBEARER",
            token_url=self.identity.token_url, oauth_client_id="job", oauth_client_secret=secret, scope="read write",
        )  # fmt: skip


def by_function(token: Callable[[], tuple[str, float]]) -> KafkaSecurity:
    return KafkaSecurity("SASL_PLAINTEXT", "OAUTHBEARER", token=token)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """A broker with two doors: a plain one (for set-up), and one for tokens that the provider has signed."""
    with IdentityProvider("job", SECRET) as identity:
        kafka = LocalKafka(fast_start=True)
        plain, controller = kafka._ports
        [port] = _free_ports(1)
        doors = {"PLAINTEXT": plain, "OAUTH": port, "CONTROLLER": controller}
        door = "listener.name.oauth.oauthbearer.sasl"
        kafka._settings |= {
            "listeners": ",".join(f"{name}://127.0.0.1:{at}" for name, at in doors.items()),
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},OAUTH://127.0.0.1:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OAUTH:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{door}.jaas.config": f"{MODULE}.OAuthBearerLoginModule required;",
            f"{door}.server.callback.handler.class": f"{MODULE}.OAuthBearerValidatorCallbackHandler",
            # Without it Kafka 4.1 takes tokens of any signature.
            "sasl.oauthbearer.jwt.validator.class": f"{MODULE}.BrokerJwtValidator",
            "sasl.oauthbearer.jwks.endpoint.url": identity.keys_url,
            "sasl.oauthbearer.expected.audience": "kafka",
            "sasl.oauthbearer.expected.issuer": identity.url,
        }
        kafka._options.append(f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={identity.keys_url}")
        with kafka:
            yield Guarded(identity, KafkaAdmin(kafka.bootstrap), f"127.0.0.1:{port}")


def round_trip(guarded: Guarded, security: KafkaSecurity) -> None:
    topic = f"t-{uuid.uuid4().hex[:8]}"
    guarded.admin.create_topic(topic, 1)
    with KafkaProducer(guarded.brokers, security=security, transactional_id=topic) as producer, producer.transaction():
        producer.send_frame(topic, pl.DataFrame({"value": ["a", "b"]}), format="text")
    with KafkaConsumer(guarded.brokers, topic, group_id=topic, security=security, format="text") as consumer:
        found: list[str] = []
        while len(found) < 2:
            found += [record.value for record in [consumer.poll(1)] if record is not None]
    assert found == ["a", "b"]
    admin = KafkaAdmin(guarded.brokers, security=security)
    assert topic in admin.topics()
    assert admin.log_dirs()  # by the connection of our own


def test_tokens_of_an_endpoint(guarded: Guarded) -> None:
    before = guarded.identity.asked
    round_trip(guarded, guarded.oidc())
    assert guarded.identity.grants[-1]["scope"] == ["read write"]
    assert guarded.identity.asked == before + 1  # all clients of one identity share the token


def test_tokens_of_a_function(guarded: Guarded) -> None:
    round_trip(guarded, by_function(guarded.identity.token))


def test_the_plain_consumer_has_them_too(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_PLAIN_CONSUMER", "1")
    round_trip(guarded, guarded.oidc())


def test_a_job_reads_and_writes_with_tokens(guarded: Guarded, tmp_path: Path) -> None:
    source, sink = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("in", "out"))
    for topic in (source, sink):
        guarded.admin.create_topic(topic, 1)
    security = guarded.oidc()
    with KafkaProducer(guarded.brokers, security=security) as producer:
        producer.send_frame(source, pl.DataFrame({"n": [1, 2, 3]}))
    app = App(f"job-{source}", broker=KafkaBroker(f"kafka://{guarded.brokers}", security=security))
    app.stream(source).filter(pl.col("n") > 1).to(sink)
    app.run(until_caught_up=True)
    with KafkaConsumer(guarded.brokers, security=security, format="json") as consumer:
        consumer.assign({(sink, 0): 0})
        rows = []
        while len(rows) < 2:
            rows += [record.value["n"] for record in [consumer.poll(1)] if record is not None]
    assert rows == [2, 3]


@pytest.mark.slow
def test_a_new_token_comes_before_the_old_one_ends(guarded: Guarded) -> None:
    given: list[float] = []

    def token() -> tuple[str, float]:
        # librdkafka looks once a second whether it needs another: shorter lives end before it has one.
        made, expiry = guarded.identity.token(lifetime=20)
        given.append(expiry)
        return made, expiry

    topic = f"t-{uuid.uuid4().hex[:8]}"
    guarded.admin.create_topic(topic, 1)
    with KafkaProducer(guarded.brokers, security=by_function(token)) as producer:
        sent = 0
        while len(given) < 2 or time.time() < given[0] + 1:  # the broker closes connections whose token has ended
            producer.send(topic, b"x").result(30)
            sent += 1
            time.sleep(0.01)
    assert sum(guarded.admin.offsets(topic, latest=True).values()) == sent


def refused(guarded: Guarded, security: KafkaSecurity, why: str) -> None:
    """Every client says so, each long before its minute is over."""
    with (
        pytest.raises(ConnectorError, match=why),
        KafkaConsumer(guarded.brokers, "t", group_id="g", security=security) as consumer,
    ):
        consumer.poll(60)
    producer = KafkaProducer(guarded.brokers, security=security)
    with pytest.raises(ConnectorError, match=why):
        producer.send("t", b"x").result(60)
    producer.kill()
    with pytest.raises(ConnectorError, match="does not let this client in"):
        KafkaAdmin(guarded.brokers, security=security, timeout=60).topics()


def test_a_wrong_secret_is_told_fast_and_not_shown(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    wrong = guarded.oidc("wrong-s3cret")
    with caplog.at_level(logging.DEBUG):
        refused(guarded, wrong, "invalid_client who are you")
    assert time.monotonic() - started < 60
    assert "check oauth_client_id" in caplog.text
    for shown in (caplog.text, repr(wrong), str(wrong.settings()["oauth_cb"])):
        assert "s3cret" not in shown


def test_a_forged_token_is_refused(guarded: Guarded) -> None:
    refused(guarded, by_function(lambda: guarded.identity.token(forged=True)), "credentials|let this producer in")


def test_a_function_that_fails_is_told(guarded: Guarded) -> None:
    def broken() -> tuple[str, float]:
        raise RuntimeError("the vault is sealed")

    refused(guarded, by_function(broken), "RuntimeError: the vault is sealed")
