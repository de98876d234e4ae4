"""E-mail by SMTP (RFC 5321), encrypted; later messages on an alert answer the first (RFC 5322 `References`)."""

from __future__ import annotations

import hashlib
import html
import smtplib
import ssl
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Literal

from thalweg.alerts.channels.base import DeliveryError
from thalweg.alerts.message import Kind, Message, one_line
from thalweg.alerts.rules import Severity
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class EmailChannel:
    """Sends each message to all addressees in one e-mail, as text and as HTML.

    Values from events are escaped in the HTML and have no line breaks in headers. A message's id comes from its key, so
    that mail readers drop repeats.

    Args:
        host, port: of the mail server.
        sender: the address that it comes from.
        to: addresses.
        security: "starttls" (port 587), "tls" (from the first byte, port 465), or "none" (a relay on this machine).
        user, password: where the server wants them; never shown in logs or `repr`.
        context: certificates to trust; the system's by default.
    """

    tells = frozenset({Kind.TRIGGERED, Kind.REMINDER, Kind.RESOLVED, Kind.DIGEST})

    def __init__(
        self,
        host: str,
        port: int = 587,
        *,
        sender: str,
        to: Sequence[str],
        security: Literal["starttls", "tls", "none"] = "starttls",
        user: str | None = None,
        password: str | None = None,
        timeout: Duration = "15s",
        context: ssl.SSLContext | None = None,
    ) -> None:
        if isinstance(to, str) or not to:
            raise ConfigurationError("the e-mail channel needs a list of addresses to send to")
        if security not in ("starttls", "tls", "none"):
            raise ConfigurationError(f"security of the e-mail channel is {security!r}; use 'starttls', 'tls' or 'none'")
        if user is not None and security == "none":
            raise ConfigurationError("the e-mail channel does not send a password over a connection without encryption")
        self._sender, self._to = _checked(sender), [_checked(address) for address in to]
        self._host, self._port, self._security = host, port, security
        self._user, self._password = user, password or ""
        self._timeout = milliseconds(timeout, name="timeout of the e-mail channel", minimum=1) / 1000
        self._context = context

    def __repr__(self) -> str:
        return f"EmailChannel({self._host}:{self._port}, to {', '.join(self._to)})"

    def send(self, message: Message) -> str:
        """Sends one e-mail; returns the id that later ones refer to."""
        mail = self.compose(message)
        try:
            with self._connect() as server:
                refused = server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            # A wrong password may be put right while the alert waits, so it is tried again.
            raise DeliveryError(f"{self._host} refuses user {self._user!r}: {_said(error.smtp_error)}") from error
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            raise DeliveryError(
                f"{self._host} refuses all addressees: {_said(next(iter(error.recipients.values()))[1])}",
                final=all(code >= 500 for code in codes),
            ) from error
        except smtplib.SMTPResponseException as error:
            raise DeliveryError(
                f"{self._host} answered {error.smtp_code}: {_said(error.smtp_error)}", final=error.smtp_code >= 550
            ) from error
        except (smtplib.SMTPException, OSError) as error:
            raise DeliveryError(f"{self._host}:{self._port}: {type(error).__name__}: {error}") from error
        if refused:
            # The others have it: sending all again would double theirs.
            raise DeliveryError(f"{self._host} refuses {', '.join(refused)}; the others were told", final=True)
        return message.reference or mail["Message-ID"]

    def _connect(self) -> smtplib.SMTP:
        context = self._context or ssl.create_default_context()
        if self._security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        try:
            if self._security == "starttls":
                server.starttls(context=context)
            if self._user is not None:
                server.login(self._user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def compose(self, message: Message) -> EmailMessage:
        """The e-mail that says this message."""
        alert = message.alert
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, ", ".join(self._to)
        mail["Subject"] = one_line(f"[{alert.severity.upper()}] {message.title}", 200)
        domain = self._sender.rpartition("@")[2]
        mail["Message-ID"] = f"<{hashlib.sha256(message.key.encode()).hexdigest()[:40]}@{domain}>"
        if message.reference:
            mail["In-Reply-To"] = mail["References"] = message.reference
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence note answers it
        if alert.severity in (Severity.CRITICAL, Severity.HIGH):
            mail["X-Priority"] = "1"
        facts = [("Rule", alert.rule), ("Severity", str(alert.severity)), ("Status", str(alert.status))]
        facts += [(name, " ".join(str(value).splitlines())) for name, value in {**alert.labels, **alert.event}.items()]
        mail.set_content("\n".join([message.title, "", *message.lines, "", *(f"{n}: {v}" for n, v in facts)]))
        rows = "".join(
            f"<tr><td><b>{html.escape(one_line(n, 200))}</b></td><td>{html.escape(v[:2000])}</td></tr>"
            for n, v in facts
        )
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in message.lines)
        mail.add_alternative(f"<h2>{html.escape(message.title)}</h2>{lines}<table>{rows}</table>", subtype="html")
        return mail

    def close(self) -> None:
        """Nothing to free: each message has a connection of its own."""


def _checked(address: str) -> str:
    try:
        found = Address(addr_spec=address)
    except Exception as error:  # the parser raises several kinds
        raise ConfigurationError(f"e-mail address {address!r}: {error}") from error
    if not found.domain:
        raise ConfigurationError(f"e-mail address {address!r} has no domain")
    return address


def _said(text: bytes | str) -> str:
    return one_line(text.decode(errors="replace") if isinstance(text, bytes) else text, 200)
