"""HTTP to a schema registry: several addresses, authentication, TLS, a few tries, errors in words."""

from __future__ import annotations

import logging
import os
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.errors import ConfigurationError
from thalweg.kafka.schema_registry.errors import (
    IncompatibleSchemaError,
    RegistryUnavailableError,
    SchemaRegistryError,
    UnknownSchemaError,
)

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("thalweg.kafka")

_MEDIA = "application/vnd.schemaregistry.v1+json"
_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class RegistryAccess:
    """Where a registry is and who asks. Secrets do not show in its `repr`.

    Args:
        urls: base addresses, such as `https://registry:8081`; the next one is tried where one does not answer.
        basic_auth: user and password.
        bearer_token: sent instead; a function is called for each request (for tokens that expire).
        ca: file with the certificates to trust; None: the system's.
        certificate, key: files with which the client shows who it is.
        verify: False accepts any certificate; for tests only.
        timeout: seconds one try may take.
        retries: further tries where the registry does not answer or says that it is busy.
    """

    urls: tuple[str, ...]
    basic_auth: tuple[str, str] | None = None
    bearer_token: Any = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify: bool = True
    timeout: float = 10.0
    retries: int = 3

    def __post_init__(self) -> None:
        if any("@" in url for url in self.urls):  # it would stand in logs and errors
            raise ConfigurationError("schema registry: give user and password by basic_auth, not in the address")
        if not self.urls or not all(url.startswith(("http://", "https://")) for url in self.urls):
            raise ConfigurationError(f"schema registry {', '.join(self.urls)!r}: write http://host:8081")
        if self.basic_auth is not None and self.bearer_token is not None:
            raise ConfigurationError("schema registry: give basic_auth or bearer_token, not both")

    def __repr__(self) -> str:
        return f"RegistryAccess({', '.join(self.urls)})"


_VARIABLE = "THALWEG_SCHEMA_REGISTRY_"


def access_from_environment(environment: Mapping[str, str] | None = None) -> RegistryAccess:
    """The registry that the environment names: `THALWEG_SCHEMA_REGISTRY_URL`, and `…_USER` with `…_PASSWORD`,
    `…_TOKEN`, `…_CA`.

    Raises:
        ConfigurationError: there is none.
    """
    known = os.environ if environment is None else environment
    url = known.get(f"{_VARIABLE}URL", "")
    if not url:
        raise ConfigurationError(
            f"which schema registry? Set {_VARIABLE}URL, or give format=AvroFormat(SchemaRegistryClient(url)) in place "
            "of a name"
        )
    user = known.get(f"{_VARIABLE}USER")
    return RegistryAccess(
        tuple(part.strip() for part in url.split(",")),
        basic_auth=None if user is None else (user, known.get(f"{_VARIABLE}PASSWORD", "")),
        bearer_token=known.get(f"{_VARIABLE}TOKEN"),
        ca=known.get(f"{_VARIABLE}CA"),
    )


class Transport:
    """Sends requests and turns answers into data or errors. Safe to use from several threads."""

    def __init__(self, access: RegistryAccess) -> None:
        import httpx

        self.access = access
        self._first = 0
        self._client = httpx.Client(
            timeout=access.timeout,
            verify=_trust(access),
            auth=access.basic_auth,
            headers={"Accept": f"{_MEDIA}, application/json", "Content-Type": _MEDIA},
            follow_redirects=True,
        )

    def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        """The answer as JSON data.

        Raises:
            RegistryUnavailableError: no address answers, also after the retries.
            UnknownSchemaError, IncompatibleSchemaError, SchemaRegistryError: it refuses.
        """
        problem = ""
        for attempt in range(self.access.retries + 1):
            if attempt:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
                time.sleep(pause * random.uniform(0.5, 1.0))
            for offset in range(len(self.access.urls)):
                number = (self._first + offset) % len(self.access.urls)
                answer, problem = self._try(self.access.urls[number], method, path, body, query)
                if answer is not None:
                    self._first = number
                    return _data(answer, method, path)
        raise RegistryUnavailableError(
            f"the schema registry at {', '.join(self.access.urls)} does not answer ({problem}); schemas that were read "
            "before go on working, others wait for it"
        )

    def _try(
        self, url: str, method: str, path: str, body: Any, query: Mapping[str, str] | None
    ) -> tuple[httpx.Response | None, str]:
        import httpx

        token = self.access.bearer_token
        headers = {} if token is None else {"Authorization": f"Bearer {token() if callable(token) else token}"}
        try:
            answer = self._client.request(
                method, url.rstrip("/") + path, json=body, params=dict(query or {}), headers=headers
            )
        except httpx.TransportError as error:
            logger.info("schema registry %s: %s", url, error)
            return None, f"{type(error).__name__}: {error}"
        if answer.status_code in _TRY_AGAIN and not _is_final(answer):
            return None, f"HTTP {answer.status_code}"
        return answer, ""

    def close(self) -> None:
        self._client.close()


def _trust(access: RegistryAccess) -> ssl.SSLContext | bool:
    if not access.verify:
        return False
    if access.ca is None and access.certificate is None:
        return True
    context = ssl.create_default_context(cafile=access.ca)
    if access.certificate is not None:
        context.load_cert_chain(access.certificate, access.key)
    return context


def _is_final(answer: httpx.Response) -> bool:
    """A server error that the registry explains (an invalid schema makes some of them answer 500) is an answer."""
    return answer.status_code == 500 and "error_code" in answer.text


def _data(answer: httpx.Response, method: str, path: str) -> Any:
    if answer.is_success:
        return answer.json() if answer.content else None
    code, message = _explained(answer)
    text = f"schema registry: {method} {path}: {message} (HTTP {answer.status_code})"
    if answer.status_code == 404:
        raise UnknownSchemaError(text, 404, code)
    if answer.status_code == 409:
        raise IncompatibleSchemaError(text, [message])
    if answer.status_code in (401, 403):
        text = f"{text}; check basic_auth or bearer_token, and what this user may do"
    raise SchemaRegistryError(text, answer.status_code, code)


def _explained(answer: httpx.Response) -> tuple[int, str]:
    try:
        data = answer.json()
    except ValueError:
        return 0, answer.text[:500] or answer.reason_phrase
    if not isinstance(data, dict):
        return 0, str(data)[:500]
    return int(data.get("error_code") or 0), str(data.get("message") or data.get("detail") or data)[:2000]


def as_urls(given: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses from one text (separated by commas) or several."""
    parts = given.split(",") if isinstance(given, str) else given
    return tuple(part.strip() for part in parts if part.strip())
