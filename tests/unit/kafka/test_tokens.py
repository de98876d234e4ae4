"""Tokens for OAUTHBEARER: kept while they are good, and the one before serves while no other can be had."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.servers.identity import IdentityProvider

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka.security import KafkaSecurity
from thalweg.kafka.tokens import ClientCredentials, Tokens


def test_a_token_is_kept_until_it_is_nearly_over() -> None:
    answers = iter([("one", time.time() + 1000), ("two", time.time() + 1000)])
    tokens = Tokens(lambda: next(answers))
    assert tokens()[0] == tokens("")[0] == "one"
    tokens._renew = 0
    assert tokens()[0] == "two"


def test_the_one_before_serves_while_no_other_can_be_had(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [("one", datetime.now(UTC) + timedelta(minutes=5))]
    tokens = Tokens(lambda: answers.pop())
    good = tokens()
    tokens._renew = 0
    with caplog.at_level(logging.WARNING):
        assert tokens() == good
    assert "the one before is good for" in caplog.text
    tokens._kept = ("one", time.time() + 1)
    with pytest.raises(ConnectorError, match="no OAuth token: IndexError"):
        tokens()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("just-text", r"returns \(token, expiry\)"),
        (("t", datetime(2100, 1, 1)), "no time zone"),
        (("t", time.time() - 1), "expired already"),
        (("t", "soon"), "expired already"),
    ],
)
def test_what_is_no_token_is_named(given: Any, said: str) -> None:
    with pytest.raises(ConnectorError, match=said):
        Tokens(lambda: given)()


def test_an_endpoint_gives_tokens_or_says_why_not() -> None:
    with IdentityProvider("job", "s3cret") as identity:
        token, expiry = ClientCredentials(identity.token_url, "job", "s3cret", "x")()
        assert token.count(".") == 2
        assert 0 < expiry - time.time() <= 300
        identity.broken = True
        with pytest.raises(ConnectorError, match="HTTP 503: temporarily_unavailable"):
            ClientCredentials(identity.token_url, "job", "s3cret")()
    with pytest.raises(ConnectorError, match="does not answer: ConnectError"):
        ClientCredentials("http://127.0.0.1:9/token", "job", "s3cret")()


def test_settings_of_security() -> None:
    def token() -> tuple[str, float]:
        return "t0ken", time.time() + 60

    security = KafkaSecurity("SASL_SSL", "OAUTHBEARER", token=token)
    assert security.settings()["oauth_cb"]()[0] == "t0ken"
    oidc = KafkaSecurity.from_env(
        environ={
            "THALWEG_KAFKA_PROTOCOL": "SASL_SSL",
            "THALWEG_KAFKA_MECHANISM": "OAUTHBEARER",
            "THALWEG_KAFKA_TOKEN_URL": "http://id/token",
            "THALWEG_KAFKA_OAUTH_CLIENT_ID": "job",
            "THALWEG_KAFKA_OAUTH_CLIENT_SECRET": "s3cret",
        }
    )
    assert oidc.tokens is not None
    assert "s3cret" not in repr(oidc)
    assert "s3cret" not in str(oidc.settings())
    for given in ({"mechanism": "PLAIN", "username": "a", "password": "b"}, {"mechanism": None, "protocol": "SSL"}):
        with pytest.raises(ConfigurationError, match="token= is for OAUTHBEARER"):
            KafkaSecurity(**{"protocol": "SASL_SSL", "token": token, **given})
    with pytest.raises(ConfigurationError, match="or a function, token="):
        KafkaSecurity("SASL_SSL", "OAUTHBEARER")
