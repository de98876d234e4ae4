"""Text messages, by the API that Twilio has and others copy (https://www.twilio.com/docs/messaging/api)."""

from __future__ import annotations

from base64 import b64encode

from thalweg.alerts.channels.base import DeliveryError
from thalweg.alerts.channels.http import HttpSender, check_address
from thalweg.alerts.message import Kind, Message, one_line
from thalweg.durations import Duration
from thalweg.errors import ConfigurationError

LONGEST = 320
"""Characters of one message: two or three segments. A phone at night needs no more."""


class SmsChannel:
    """Sends a short text to each number.

    The API has no idempotency key: a repetition after a lost answer is a second text. Each number is told once per
    attempt; numbers that were reached are not told again when another one failed.

    Args:
        account, token: of the account; the token is never shown in logs or `repr`.
        sender: the number (E.164) or messaging service that it comes from.
        to: numbers in E.164 form, such as +4930123456.
        url: of the API, for other providers and tests.
    """

    tells = frozenset({Kind.TRIGGERED, Kind.REMINDER, Kind.DIGEST})

    def __init__(
        self,
        account: str,
        token: str,
        *,
        sender: str,
        to: list[str],
        url: str = "https://api.twilio.com",
        timeout: Duration = "10s",
        allow_private: bool = False,
    ) -> None:
        if not (account and token and sender and to):
            raise ConfigurationError("the SMS channel needs account, token, sender and at least one number")
        bad = [number for number in to if not (number.startswith("+") and number[1:].isdecimal())]
        if bad:
            raise ConfigurationError(f"SMS number {bad[0]!r}: use the international form, such as +4930123456")
        check_address(url, "the SMS provider's address")
        self._to = list(to)
        self._sender = sender
        self._url = f"{url.rstrip('/')}/2010-04-01/Accounts/{account}/Messages.json"
        self._auth = "Basic " + b64encode(f"{account}:{token}".encode()).decode()
        self._http = HttpSender(timeout, allow_private=allow_private)
        self._reached: tuple[str, set[str]] = ("", set())

    def __repr__(self) -> str:
        return f"SmsChannel(to {len(self._to)} numbers)"

    def send(self, message: Message) -> None:
        """Sends the text to every number that it has not reached yet."""
        if self._reached[0] != message.key:
            self._reached = (message.key, set())
        text = one_line(f"[{message.alert.severity.upper()}] {message.title}", LONGEST)
        failures: list[DeliveryError] = []
        for number in self._to:
            if number in self._reached[1]:
                continue
            try:
                self._http.post(
                    self._url,
                    headers={"Authorization": self._auth},
                    data={"To": number, "From": self._sender, "Body": text},
                )
                self._reached[1].add(number)
            except DeliveryError as error:
                failures.append(error)
        if failures:
            waits = [error.retry_after for error in failures if error.retry_after is not None]
            raise DeliveryError(
                f"{len(failures)} of {len(self._to)} numbers were not reached: {failures[0]}",
                retry_after=max(waits, default=None),
                final=all(error.final for error in failures),
            )

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()
