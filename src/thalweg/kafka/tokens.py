"""Tokens for OAUTHBEARER: from a function of the user's or an OIDC endpoint, kept while they are good."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from thalweg.errors import ConnectorError

logger = logging.getLogger("thalweg.kafka")

OAUTH = "oauth_cb"
"""The name under which `Tokens` stand among settings, as `confluent_kafka` has it."""

TokenFunction = Callable[[], "tuple[str, datetime | float]"]
"""Gives a token and when it expires: an aware datetime, or seconds since 1970."""

_RENEW_AT = 0.7
"""Part of a token's life after which the next is fetched; librdkafka asks for it at 0.8."""
_LAST_SECONDS = 5.0
"""A token that is good for no longer is not handed out in place of one that can't be fetched."""
_TIMEOUT = 10.0


class Tokens:
    """The tokens of one identity, for all of its clients; may be called by several threads.

    Called as a function it is `confluent_kafka`'s `oauth_cb`.

    Args:
        fetch: gives a fresh one.
    """

    def __init__(self, fetch: TokenFunction) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._kept: tuple[str, float] | None = None
        self._renew = 0.0

    def __call__(self, config: str = "") -> tuple[str, float]:
        """A token and when it expires (seconds since 1970).

        Raises:
            ConnectorError: none can be had; says why.
        """
        with self._lock:
            if self._kept is None or time.time() >= self._renew:
                self._refresh()
            assert self._kept is not None
            return self._kept

    def _refresh(self) -> None:
        now = time.time()
        try:
            token, expiry = _checked(self._fetch())
        except Exception as error:
            text = f"no OAuth token: {error if isinstance(error, ConnectorError) else _named(error)}"
            if self._kept is None or self._kept[1] - now < _LAST_SECONDS:
                logger.error("%s", text)
                raise ConnectorError(text) from error
            logger.warning("%s; the one before is good for %.0f s more", text, self._kept[1] - now)
            return
        self._kept = token, expiry
        self._renew = now + (expiry - now) * _RENEW_AT

    def __repr__(self) -> str:
        return "Tokens(not shown)"


class ClientCredentials:
    """A `TokenFunction`: OIDC's client credentials, asked for at a token endpoint.

    Args:
        url: the endpoint.
        client_id, secret: sent as HTTP's basic authentication.
        scope: what the token is to be good for.
    """

    def __init__(self, url: str, client_id: str, secret: str, scope: str | None = None) -> None:
        self._url = url
        self._auth = client_id, secret
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}

    def __call__(self) -> tuple[str, float]:
        """A fresh token.

        Raises:
            ConnectorError: the endpoint does not answer, or refuses.
        """
        import httpx

        asked = time.time()
        try:
            answer = httpx.post(self._url, data=self._form, auth=self._auth, timeout=_TIMEOUT)
        except httpx.HTTPError as error:
            raise ConnectorError(f"the token endpoint {self._url} does not answer: {_named(error)}") from error
        found = _json(answer)
        if not answer.is_success or "access_token" not in found:
            said = " ".join(str(found[name]) for name in ("error", "error_description") if name in found)
            raise ConnectorError(
                f"the token endpoint {self._url} gives none (HTTP {answer.status_code}{': ' + said if said else ''}); "
                "check oauth_client_id, oauth_client_secret and scope"
            )
        return str(found["access_token"]), asked + float(found.get("expires_in", 300))

    def __repr__(self) -> str:
        return f"ClientCredentials({self._url})"


def _checked(given: Any) -> tuple[str, float]:
    """What a token function has returned.

    Raises:
        ConnectorError: not a token and a time to come.
    """
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)):
        raise ConnectorError("a token function returns (token, expiry): text, and a datetime or seconds since 1970")
    token, expiry = given
    if isinstance(expiry, datetime):
        if expiry.tzinfo is None:
            raise ConnectorError("the expiry that the token function returned has no time zone")
        expiry = expiry.timestamp()
    if not isinstance(expiry, int | float) or expiry <= time.time():
        raise ConnectorError(f"the token function returned one that expired already (at {expiry!r})")
    return token, float(expiry)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _json(answer: Any) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
