"""How a client proves who it is and whom it talks to: TLS and SASL, from code, environment or file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.kafka.tokens import OAUTH, ClientCredentials, TokenFunction, Tokens

ENVIRONMENT_PREFIX = "THALWEG_KAFKA_"
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_PEM = "-----BEGIN "
_JAAS = re.compile(r'(username|password|clientId|clientSecret|scope)\s*=\s*"((?:[^"\\]|\\.)*)"')
_JAAS_NAMES = {"clientId": "oauth_client_id", "clientSecret": "oauth_client_secret"}
_JAVA_ONLY = ("sasl.login.callback.handler.class",)
"""Which of Java's classes fetches tokens: here it is always ours."""


@dataclass(frozen=True)
class KafkaSecurity:
    """Security of a connection. `repr` and error messages never show a secret.

    Args:
        protocol: "PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL".
        mechanism: for SASL: "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512" or "OAUTHBEARER".
        username, password: for PLAIN and SCRAM.
        ca: the certificates to trust, as the path of a PEM file or as PEM text; None: the system's.
        certificate, key, key_password: of this client, where the broker wants to see one; paths or PEM texts.
        verify_hostname: the broker's certificate must name the host that was connected to.
        token_url, oauth_client_id, oauth_client_secret, scope: for OAUTHBEARER: where tokens come from (OIDC client
            credentials).
        token: for OAUTHBEARER, instead: a function that returns a token and when it expires (an aware datetime, or
            seconds since 1970). It is called when a token is needed, on a thread of the client's.
        more: other librdkafka settings of security (`{"sasl.oauthbearer.extensions": …}`); not shown either.

    Raises:
        ConfigurationError: settings that don't fit together.

    >>> KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", username="ada", password="s3cret")
    KafkaSecurity(protocol='SASL_SSL', mechanism='SCRAM-SHA-512', username='ada')
    """

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    verify_hostname: bool = True
    token_url: str | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    token: TokenFunction | None = field(default=None, repr=False)
    more: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ConfigurationError(f"security protocol {self.protocol!r}: use one of {', '.join(_PROTOCOLS)}")
        if self.protocol.startswith("SASL"):
            self._check_sasl()
        elif self.mechanism is not None:
            raise ConfigurationError(
                f"a SASL mechanism needs the protocol SASL_SSL or SASL_PLAINTEXT, not {self.protocol}"
            )
        elif self.token is not None:
            raise ConfigurationError("token= is for OAUTHBEARER, and instead of token_url")
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client certificate and its key come together")
        # Not a field: made once, so that all clients of this identity share their tokens.
        object.__setattr__(self, "_tokens", self._token_source())

    def _token_source(self) -> Tokens | None:
        if self.token is not None:
            return Tokens(self.token)
        if None in (self.token_url, self.oauth_client_id, self.oauth_client_secret):
            return None
        url, client_id, secret = str(self.token_url), str(self.oauth_client_id), str(self.oauth_client_secret)
        return Tokens(ClientCredentials(url, client_id, secret, self.scope))

    @property
    def tokens(self) -> Tokens | None:
        """Where tokens for OAUTHBEARER come from, None where librdkafka's own settings say it."""
        found: Tokens | None = getattr(self, "_tokens", None)
        return found

    def _check_sasl(self) -> None:
        if self.mechanism not in _MECHANISMS:
            raise ConfigurationError(f"SASL mechanism {self.mechanism!r}: use one of {', '.join(_MECHANISMS)}")
        if self.mechanism != "OAUTHBEARER" and (self.username is None or self.password is None):
            raise ConfigurationError(f"{self.mechanism} needs a username and a password")
        oidc = (self.token_url, self.oauth_client_id, self.oauth_client_secret)
        if self.mechanism == "OAUTHBEARER" and self.token is None and not self.more and None in oidc:
            raise ConfigurationError(
                "OAUTHBEARER needs token_url, oauth_client_id and oauth_client_secret; or a function, token="
            )
        if self.token is not None and (self.mechanism != "OAUTHBEARER" or self.token_url is not None):
            raise ConfigurationError("token= is for OAUTHBEARER, and instead of token_url")

    def __repr__(self) -> str:
        shown = [(f.name, getattr(self, f.name)) for f in fields(self) if f.repr]
        told = ", ".join(f"{name}={_short(value)!r}" for name, value in shown if value not in (None, True))
        return f"KafkaSecurity({told})"

    # ---------------------------------------------------------------- from elsewhere

    @classmethod
    def from_env(cls, prefix: str = ENVIRONMENT_PREFIX, environ: Mapping[str, str] | None = None) -> KafkaSecurity:
        """Reads `THALWEG_KAFKA_PROTOCOL`, `…_MECHANISM`, `…_USERNAME`, `…_PASSWORD`, `…_CA` and so on: the names above.

        A name with `_FILE` behind it (`THALWEG_KAFKA_PASSWORD_FILE`) gives a file that holds the value.

        Raises:
            ConfigurationError: settings that don't fit together, or a file that can't be read.
        """
        given = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for name in _names():
            variable = prefix + name.upper()
            if variable in given:
                found[name] = given[variable]
            elif variable + "_FILE" in given:
                found[name] = _read(Path(given[variable + "_FILE"])).strip()
        return cls._of(found, "the environment")

    @classmethod
    def from_file(cls, path: str | Path) -> KafkaSecurity:
        """Reads a TOML or JSON file with the names above, or a Java client's `.properties`.

        Of properties, `security.protocol`, `sasl.mechanism`, `sasl.jaas.config` (PLAIN and SCRAM) and PEM stores are
        understood; other names go to librdkafka as they are.

        Raises:
            ConfigurationError: no such file, not in one of these forms, or settings that don't fit together.
        """
        file = Path(path)
        text = _read(file)
        try:
            if file.suffix == ".toml":
                found = tomllib.loads(text)
            elif file.suffix == ".json":
                found = json.loads(text)
            elif file.suffix == ".properties":
                return cls._of(_from_properties(text), str(file))
            else:
                raise ConfigurationError(f"{file}: security settings come as .toml, .json or .properties")
        except ValueError as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"{file} can't be read as {file.suffix[1:]}") from None  # its text may be secret
        return cls._of(found.get("kafka", found), str(file))

    @classmethod
    def _of(cls, found: Mapping[str, Any], where: str) -> KafkaSecurity:
        unknown = set(found) - {*_names(), "more"}
        if unknown:
            raise ConfigurationError(f"{where}: {', '.join(sorted(unknown))}: no such security setting")
        values = dict(found)
        verify = values.get("verify_hostname")
        if isinstance(verify, str):
            values["verify_hostname"] = verify.lower() in ("1", "true", "yes")
        return cls(**values)

    # ---------------------------------------------------------------- for librdkafka

    def settings(self) -> dict[str, Any]:
        """librdkafka's settings, secrets included, and (`oauth_cb`) what gives tokens."""
        found: dict[str, Any] = {"security.protocol": self.protocol}
        plain = {
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "ssl.key.password": self.key_password,
            OAUTH: self.tokens,
        }
        found |= {name: value for name, value in plain.items() if value is not None}
        for name, value in (("ca", self.ca), ("certificate", self.certificate), ("key", self.key)):
            if value is not None:
                found |= {f"ssl.{name}.pem" if value.startswith(_PEM) else f"ssl.{name}.location": value}
        if self.protocol.endswith("SSL"):
            found["ssl.endpoint.identification.algorithm"] = "https" if self.verify_hostname else "none"
        return found | dict(self.more)


def client_settings(
    brokers: str | Sequence[str], security: KafkaSecurity | None, settings: Mapping[str, object] | None
) -> dict[str, object]:
    """What every client of a cluster has in common, the user's own settings above it."""
    given = brokers if isinstance(brokers, str) else ",".join(brokers)
    if not given:
        raise ConfigurationError("brokers is empty; give 'host:9092', or several")
    return {"bootstrap.servers": given, **(security.settings() if security else {}), **(settings or {})}


def _names() -> list[str]:
    return [f.name for f in fields(KafkaSecurity) if f.name not in ("more", "token")]


def _short(value: object) -> object:
    return "PEM" if isinstance(value, str) and value.startswith(_PEM) else value


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}") from None


def _from_properties(text: str) -> dict[str, Any]:
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#!")
    given = {name.strip(): value.strip() for name, _, value in pairs}
    found: dict[str, Any] = {}
    for name, ours in (
        ("security.protocol", "protocol"),
        ("sasl.mechanism", "mechanism"),
        ("ssl.truststore.location", "ca"),
        ("ssl.key.password", "key_password"),
        ("sasl.oauthbearer.token.endpoint.url", "token_url"),
        ("sasl.oauthbearer.client.credentials.client.id", "oauth_client_id"),
        ("sasl.oauthbearer.client.credentials.client.secret", "oauth_client_secret"),
        ("sasl.oauthbearer.scope", "scope"),
    ):
        if name in given:
            found[ours] = given.pop(name)
    if (store := given.pop("ssl.keystore.location", None)) is not None:
        found["certificate"] = found["key"] = store  # a PEM store has both
    for kind in ("truststore", "keystore"):
        if (written := given.pop(f"ssl.{kind}.type", "PEM")) != "PEM":
            raise ConfigurationError(f"ssl.{kind}.type={written}: only PEM stores can be read; convert it with keytool")
    quoted = _JAAS.findall(given.pop("sasl.jaas.config", ""))
    found |= {_JAAS_NAMES.get(name, name): re.sub(r"\\(.)", r"\1", value) for name, value in quoted}
    for name in _JAVA_ONLY:
        given.pop(name, None)
    return found | ({"more": given} if given else {})
