"""Alerts as HTTP requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.channels.base import DeliveryError
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

LONGEST_WAIT = 86_400.0
"""Seconds: what a `Retry-After` may ask for at most."""
_TRY_AGAIN = frozenset({408, 425, 429})


class WebhookChannel:
    """Posts each alert as JSON, with an `Idempotency-Key` header that is the same at each repetition.

    2xx is delivered. 408, 425, 429, 5xx and network errors are tried again (`Retry-After` is honoured); any other
    answer is final: the request is wrong, and repeating it would not make it right. Redirects are not followed.

    Args:
        url: http or https.
        headers: sent with each request (authorisation, say); never shown in logs or `repr`.
        timeout: of one request.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: Duration = "5s") -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"webhook {url!r}: use an http:// or https:// address")
        self.url = url
        self._headers = dict(headers or {})
        self._timeout = milliseconds(timeout, name="timeout of the webhook", minimum=1) / 1000
        self._client: Any = None

    def __repr__(self) -> str:
        return f"WebhookChannel({self.url!r})"

    def send(self, alert: Alert, key: str) -> None:
        """Posts the alert."""
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._timeout, follow_redirects=False)
        body = msgspec.json.encode(alert.payload(), enc_hook=str)
        headers = {**self._headers, "Content-Type": "application/json", "Idempotency-Key": key}
        try:
            answer = self._client.post(self.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise DeliveryError(f"{self.url}: {type(error).__name__}: {error}") from error
        if 200 <= answer.status_code < 300:
            return
        again = answer.status_code >= 500 or answer.status_code in _TRY_AGAIN
        message = f"{self.url} answered {answer.status_code}: {answer.text[:200]!r}"
        raise DeliveryError(message, retry_after=retry_after(answer.headers.get("Retry-After")), final=not again)

    def close(self) -> None:
        """Closes its connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


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
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
