"""Security settings from code, environment and files: what fits together, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thalweg.errors import ConfigurationError
from thalweg.kafka._scram import Scram
from thalweg.kafka.security import KafkaSecurity, client_settings

EXPECTED = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "ada",
    "sasl.password": 's3"cret',
    "ssl.ca.location": "/etc/ca.pem",
    "ssl.endpoint.identification.algorithm": "https",
}
GIVEN = {
    "protocol": "SASL_SSL",
    "mechanism": "SCRAM-SHA-512",
    "username": "ada",
    "password": 's3"cret',
    "ca": "/etc/ca.pem",
}


def test_from_code_environment_and_files(tmp_path: Path) -> None:
    assert KafkaSecurity(**GIVEN).settings() == EXPECTED
    (tmp_path / "password").write_text('s3"cret\n')
    environ = {f"THALWEG_KAFKA_{name.upper()}": value for name, value in GIVEN.items() if name != "password"}
    environ["THALWEG_KAFKA_PASSWORD_FILE"] = str(tmp_path / "password")
    assert KafkaSecurity.from_env(environ=environ).settings() == EXPECTED
    (tmp_path / "a.json").write_text(json.dumps({"kafka": GIVEN}))
    (tmp_path / "a.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in GIVEN.items()))
    (tmp_path / "a.properties").write_text(
        "# as Java's tools read it\nsecurity.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
        '  username="ada" password="s3\\"cret";\nssl.truststore.location=/etc/ca.pem\nssl.truststore.type=PEM\n'
    )
    for form in ("json", "toml", "properties"):
        assert KafkaSecurity.from_file(tmp_path / f"a.{form}").settings() == EXPECTED


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    security = KafkaSecurity(**GIVEN, certificate="/c.pem", key="-----BEGIN PRIVATE KEY-----", key_password="pw")
    for secret in ('s3"cret', "PRIVATE", "pw'"):
        assert secret not in repr(security)
    (tmp_path / "broken.toml").write_text('password = "s3cret')
    with pytest.raises(ConfigurationError) as caught:
        KafkaSecurity.from_file(tmp_path / "broken.toml")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "TLS"}, "use one of PLAINTEXT"),
        ({"protocol": "SASL_SSL"}, "SASL mechanism None"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN"}, "a username and a password"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"}, "needs token_url"),
        ({"mechanism": "PLAIN"}, "needs the protocol SASL_SSL"),
        ({"protocol": "SSL", "key": "k"}, "come together"),
    ],
)
def test_settings_that_do_not_fit_together(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        KafkaSecurity(**given)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('passwort = "x"')
    (tmp_path / "a.ini").write_text("")
    (tmp_path / "a.properties").write_text("ssl.keystore.type=JKS\nssl.keystore.location=x.jks\n")
    for name, said in (
        ("none.toml", "can't be read"),
        ("a.toml", "passwort: no such"),
        ("a.ini", "come as"),
        ("a.properties", "only PEM"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            KafkaSecurity.from_file(tmp_path / name)


def test_oidc_and_user_settings_win() -> None:
    security = KafkaSecurity(
        "SASL_SSL", "OAUTHBEARER", token_url="https://id/token", oauth_client_id="me", oauth_client_secret="x"
    )
    assert security.settings()["oauth_cb"] is security.tokens
    found = client_settings(["a:1", "b:2"], security, {"sasl.mechanism": "PLAIN"})
    assert (found["bootstrap.servers"], found["sasl.mechanism"]) == ("a:1,b:2", "PLAIN")
    with pytest.raises(ConfigurationError, match="brokers is empty"):
        client_settings([], None, None)


def test_scram_as_published() -> None:
    """The exchange of RFC 7677, section 3."""
    scram = Scram("user", "pencil", "SHA-256", nonce="rOprNGfwEbeRWgbNEkqO")
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    challenge = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert scram.final(challenge) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
