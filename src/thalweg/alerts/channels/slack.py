"""Slack: messages with buttons, later ones in the thread of the first.

Web API `chat.postMessage` (https://docs.slack.dev/reference/methods/chat.postMessage) and Block Kit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from thalweg.alerts.channels.base import DeliveryError
from thalweg.alerts.channels.http import HttpSender, check_address
from thalweg.alerts.message import Kind, Message, one_line
from thalweg.alerts.rules import Severity, Status
from thalweg.durations import Duration
from thalweg.errors import ConfigurationError

ICONS = {
    Severity.CRITICAL: ":rotating_light:",
    Severity.HIGH: ":red_circle:",
    Severity.MEDIUM: ":large_orange_circle:",
    Severity.LOW: ":large_yellow_circle:",
    Severity.INFO: ":information_source:",
}
_FINAL = frozenset(
    {
        "account_inactive", "channel_not_found", "invalid_arguments", "invalid_auth", "invalid_blocks", "is_archived",
        "missing_scope", "msg_too_long", "no_permission", "no_text", "not_authed", "not_in_channel", "token_expired",
        "token_revoked", "restricted_action",
    }
)  # fmt: skip
_LONGEST = 2_900
"""Characters of a section's text: Block Kit takes 3,000."""


class SlackChannel:
    """Posts messages with a bot token (scope `chat:write`).

    The message on a new alert has buttons to acknowledge and to resolve it; the service's `/slack/actions` endpoint
    takes what they send. Values from events are escaped: they can't mention anybody, nor look like links.

    Args:
        token: of the bot; never shown in logs or `repr`.
        channel: its id or name.
        buttons: whether there is a service to take what the buttons send.
        url: of the Web API, for tests.
    """

    def __init__(
        self,
        token: str,
        channel: str,
        *,
        buttons: bool = True,
        url: str = "https://slack.com/api",
        timeout: Duration = "10s",
        allow_private: bool = False,
    ) -> None:
        if not token or not channel:
            raise ConfigurationError("Slack needs the token of a bot and a channel")
        check_address(url, "Slack's address")
        self._token = token
        self._channel = channel
        self._buttons = buttons
        self._url = url.rstrip("/") + "/chat.postMessage"
        self._http = HttpSender(timeout, allow_private=allow_private)

    def __repr__(self) -> str:
        return f"SlackChannel({self._channel!r})"

    def send(self, message: Message) -> str | None:
        """Posts one message; returns its `ts`, by which the next ones find its thread."""
        body: dict[str, Any] = {
            "channel": self._channel,
            "text": escaped(one_line(message.title, _LONGEST)),
            "blocks": blocks(message, buttons=self._buttons),
            "unfurl_links": False,
            "unfurl_media": False,
        }
        if message.reference:
            body["thread_ts"] = message.reference
            # What ends or heightens an alert is also shown outside the thread.
            body["reply_broadcast"] = message.kind is Kind.REMINDER
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json; charset=utf-8"}
        answer = self._http.post(self._url, headers=headers, content=msgspec.json.encode(body, enc_hook=str))
        try:
            found = msgspec.json.decode(answer.content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise DeliveryError(f"Slack answered something that is no JSON object: {answer.text[:200]!r}") from error
        if not found.get("ok"):
            name = str(found.get("error", "unknown error"))
            raise DeliveryError(f"Slack refused the message for {self._channel}: {name}", final=name in _FINAL)
        return message.reference or str(found.get("ts"))

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()


def blocks(message: Message, *, buttons: bool) -> list[dict[str, Any]]:
    """The message in Block Kit."""
    alert = message.alert
    head = f"{ICONS[alert.severity]} *{escaped(one_line(message.title, 500))}*"
    lines = "\n".join(escaped(line) for line in message.lines)
    made: list[dict[str, Any]] = [_section(head if not lines else f"{head}\n{lines}")]
    facts = f"{alert.severity} · {escaped(alert.rule)}" + "".join(
        f" · {escaped(name)}={escaped(one_line(value, 80))}" for name, value in alert.labels.items()
    )
    made.append({"type": "context", "elements": [{"type": "mrkdwn", "text": facts[:_LONGEST]}]})
    if buttons and message.kind in (Kind.TRIGGERED, Kind.REMINDER) and alert.status is not Status.RESOLVED:
        made.append(
            {
                "type": "actions",
                "block_id": f"alert-{alert.id}"[:255],
                "elements": [
                    _button("Acknowledge", "acknowledge", alert.id, "primary"),
                    _button("Resolve", "resolve", alert.id, None),
                ],
            }
        )
    return made


def _section(text: str) -> dict[str, Any]:
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut, "verbatim": True}}


def _button(text: str, action: str, value: str, style: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "action_id": action,
        "value": value,
    }
    return made if style is None else {**made, "style": style}


def escaped(text: str) -> str:
    """The text with Slack's three control characters escaped, so that it can't mention or link.

    >>> escaped("<!channel> & <https://evil.example|bank>")
    '&lt;!channel&gt; &amp; &lt;https://evil.example|bank&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def verify(signing_secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """Whether a request comes from Slack (https://docs.slack.dev/authentication/verifying-requests-from-slack).

    Args:
        headers: with lower-case names.
        now: seconds; requests older than five minutes are refused, they may be played again.
    """
    stamp = headers.get("x-slack-request-timestamp", "")
    if not stamp.isdecimal() or abs(now - int(stamp)) > 300:
        return False
    expected = hmac.new(signing_secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v0={expected}", headers.get("x-slack-signature", ""))
