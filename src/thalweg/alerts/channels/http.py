"""HTTP as all channels use it: which answers are final, which are worth another try, and where it may connect to."""

from __future__ import annotations

import ipaddress
import math
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from thalweg.alerts.channels.base import DeliveryError
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

LONGEST_WAIT = 86_400.0
"""Seconds: what a `Retry-After` may ask for at most."""
_TRY_AGAIN = frozenset({408, 425, 429})


class HttpSender:
    """Posts requests. 2xx is delivered; 408, 425, 429, 5xx and network errors are worth another try (`Retry-After` is
    honoured); any other answer is final: the request is wrong, and repeating it would not make it right. Redirects are
    not followed: they could lead anywhere.

    Args:
        timeout: of one request.
        allow_private: whether addresses that are not public may be reached. Where not, the name is resolved and checked
            before each request, and the request goes to the address that was checked.
    """

    def __init__(self, timeout: Duration, *, allow_private: bool) -> None:
        self._timeout = milliseconds(timeout, name="timeout of the channel", minimum=1) / 1000
        self._allow_private = allow_private
        self._client: Any = None

    def post(self, url: str, *, headers: Mapping[str, str], shown: str | None = None, **body: Any) -> Any:
        """Posts and returns the answer (an `httpx.Response`).

        Args:
            shown: what errors call the address, where it holds a secret.

        Raises:
            DeliveryError: not delivered.
        """
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout, follow_redirects=False, trust_env=False)
        shown = shown or without_query(url)
        target, more = (url, {}) if self._allow_private else _pinned(url, shown)
        try:
            request = self._client.build_request("POST", target, headers={**headers, **more}, **body)
            if more:
                request.extensions["sni_hostname"] = urlsplit(url).hostname
            answer = self._client.send(request)
        except httpx.HTTPError as error:
            raise DeliveryError(f"{shown}: {type(error).__name__}: {error}") from error
        if not 200 <= answer.status_code < 300:
            again = answer.status_code >= 500 or answer.status_code in _TRY_AGAIN
            raise DeliveryError(
                f"{shown} answered {answer.status_code}: {answer.text[:200]!r}",
                retry_after=retry_after(answer.headers.get("Retry-After")),
                final=not again,
            )
        return answer

    def close(self) -> None:
        """Closes its connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def check_address(url: str, what: str) -> None:
    """Refuses what is no http or https address.

    Raises:
        ConfigurationError: with the address, less its query.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{what} {without_query(url)!r}: use an http:// or https:// address")


def without_query(url: str) -> str:
    """The address without user, password and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _pinned(url: str, shown: str) -> tuple[str, dict[str, str]]:
    """The address with the host's number in place of its name, after a check; and the `Host` header that it needs.

    A name that is checked and then resolved again could have changed in between (DNS rebinding).
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DeliveryError(f"{shown}: can't resolve {host!r}: {error}") from error
    numbers = [str(entry[4][0]) for entry in found]
    for number in numbers:
        if not public(number):
            raise DeliveryError(
                f"{shown} leads to {number}, which is no public address; if that is meant, set allow_private=True",
                final=True,
            )
    number = f"[{numbers[0]}]" if ":" in numbers[0] else numbers[0]
    default = {"http": 80, "https": 443}[parts.scheme] == port
    pinned = parts._replace(netloc=number if default else f"{number}:{port}").geturl()
    return pinned, {"Host": host if default else f"{host}:{port}"}


def public(number: str) -> bool:
    """Whether an IP address is reachable on the public internet.

    >>> [public(n) for n in ("93.184.216.34", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1")]
    [True, False, False, False, False, False]
    """
    address = ipaddress.ip_address(number.split("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_global and not address.is_multicast


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3): a number or a date.

    >>> retry_after("120"), retry_after("soon"), retry_after(None)
    (120.0, None, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
        return min(max(0.0, seconds), LONGEST_WAIT) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        wait = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(0.0, wait), LONGEST_WAIT)
