"""Messages as signed HTTP requests."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

import msgspec

from thalweg.alerts.channels.http import HttpSender, check_address, without_query
from thalweg.alerts.message import Message
from thalweg.durations import Duration

SIGNATURE, STAMP = "X-Thalweg-Signature", "X-Thalweg-Timestamp"


class WebhookChannel:
    """Posts each message as JSON, with an `Idempotency-Key` header that is the same at each repetition.

    With a `secret` the request is signed: `X-Thalweg-Signature: v1=<hex>` is the HMAC-SHA256 of
    `<X-Thalweg-Timestamp>.<body>`; `verify` checks it on the other side.

    Args:
        url: http or https.
        secret: for the signature; never shown in logs or `repr`.
        headers: sent with each request (authorisation, say); never shown either.
        timeout: of one request.
        allow_private: whether the address may lead into a private network or to this machine.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Duration = "5s",
        allow_private: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_address(url, "webhook")
        self.url = url
        self._secret = None if secret is None else secret.encode()
        self._headers = dict(headers or {})
        self._http = HttpSender(timeout, allow_private=allow_private)
        self._clock = clock

    def __repr__(self) -> str:
        return f"WebhookChannel({without_query(self.url)!r})"

    def send(self, message: Message) -> None:
        """Posts the message."""
        body = msgspec.json.encode(message.payload(), enc_hook=str)
        headers = {**self._headers, "Content-Type": "application/json", "Idempotency-Key": message.key}
        if self._secret is not None:
            stamp = str(int(self._clock()))
            headers |= {STAMP: stamp, SIGNATURE: sign(self._secret, stamp, body)}
        self._http.post(self.url, headers=headers, content=body)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()


def sign(secret: bytes, stamp: str, body: bytes) -> str:
    """The signature of a request (HMAC-SHA256, RFC 2104)."""
    return "v1=" + hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float, tolerance: float = 300.0) -> bool:
    """Whether a request that arrived at `now` (seconds) is one of ours, and not an old one played again.

    >>> stamp, body = "1000", b"{}"
    >>> sent = {STAMP: stamp, SIGNATURE: sign(b"secret", stamp, body)}
    >>> verify("secret", sent, body, now=1100), verify("other", sent, body, now=1100)
    (True, False)
    >>> verify("secret", sent, body, now=2000)
    False
    """
    stamp = headers.get(STAMP, "")
    if not stamp.isdecimal() or abs(now - int(stamp)) > tolerance:
        return False
    return hmac.compare_digest(sign(secret.encode(), stamp, body), headers.get(SIGNATURE, ""))
