"""Who may ask a registry: passwords, tokens, certificates, and several addresses."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

import pytest

from tests.servers.gate import Gate
from thalweg.errors import ConfigurationError
from thalweg.kafka.schema_registry import RegistryUnavailableError, SchemaRegistryClient, SchemaRegistryError
from thalweg.kafka.schema_registry.transport import access_from_environment

SECRET = "wort-des-geheimnisses"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_password_opens_and_a_wrong_one_is_told(registry_url: str) -> None:
    subject = f"{uuid.uuid4().hex}-value"
    with Gate(registry_url, basic("ada", SECRET)) as gate:
        right = SchemaRegistryClient(gate.url, basic_auth=("ada", SECRET))
        number = right.register(subject, '"long"')
        assert right.latest(subject).id == number
        for client in (
            SchemaRegistryClient(gate.url, basic_auth=("ada", "wrong")),
            SchemaRegistryClient(gate.url),
            SchemaRegistryClient(gate.url, bearer_token=SECRET),
        ):
            with pytest.raises(SchemaRegistryError, match=r"Unauthorized.*check basic_auth") as refused:
                client.latest(subject)
            assert refused.value.status == 401
        assert SECRET not in repr(right)
        assert SECRET not in repr(right._transport.access)


def test_a_token_may_change(registry_url: str) -> None:
    tokens = iter(["old", SECRET])
    with Gate(registry_url, f"Bearer {SECRET}") as gate:
        client = SchemaRegistryClient(gate.url, bearer_token=lambda: next(tokens))
        with pytest.raises(SchemaRegistryError, match="Unauthorized"):
            client.subjects()
        client.subjects()


def test_certificates_are_checked(registry_url: str, tmp_path: Path) -> None:
    with Gate(registry_url, "Bearer t", tmp_path) as gate:
        assert gate.url.startswith("https")
        SchemaRegistryClient(gate.url, bearer_token="t", ca=str(gate.ca)).subjects()
        SchemaRegistryClient(gate.url, bearer_token="t", verify=False).subjects()
        with pytest.raises(RegistryUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            SchemaRegistryClient(gate.url, bearer_token="t", retries=0).subjects()


def test_the_next_address_is_tried(registry_url: str) -> None:
    client = SchemaRegistryClient(["http://127.0.0.1:9", registry_url], retries=0)
    client.subjects()
    assert client.urls == ("http://127.0.0.1:9", registry_url)


def test_the_environment_says_who(registry_url: str) -> None:
    names = {"URL": f"{registry_url}, http://other:1", "USER": "ada", "PASSWORD": SECRET}
    access = access_from_environment({f"THALWEG_SCHEMA_REGISTRY_{name}": value for name, value in names.items()})
    assert access.urls == (registry_url, "http://other:1")
    assert access.basic_auth == ("ada", SECRET)
    with pytest.raises(ConfigurationError, match="not both"):
        SchemaRegistryClient("http://x", basic_auth=("a", "b"), bearer_token="c")
    with pytest.raises(ConfigurationError, match="by basic_auth") as refused:
        SchemaRegistryClient(f"http://ada:{SECRET}@registry:8081")
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigurationError, match="write http"):
        SchemaRegistryClient("registry:8081")
