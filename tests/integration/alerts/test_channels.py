"""Channels against servers that speak their protocols, and check that the requests are what those promise to take."""

from __future__ import annotations

import datetime
import ssl
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from tests.integration.alerts.recorder import Recorder
from tests.servers.process import free_port
from thalweg.alerts import (
    Alert,
    AppriseChannel,
    DeliveryError,
    EmailChannel,
    Kind,
    Message,
    PagerDutyChannel,
    Severity,
    SlackChannel,
    SmsChannel,
    Status,
    WebhookChannel,
)
from thalweg.alerts.channels.webhook import verify


def message(kind: Kind = Kind.TRIGGERED, **changed: Any) -> Message:
    alert = Alert(
        "alert-1", "cpu", "v1", "High CPU", Severity.HIGH, Status.TRIGGERED, "f", {"host": "db1", "cpu": 97},
        1_700_000_000_000, 1_700_000_000_500, {"service": "db"}, runbook="https://example.org/cpu",
    )  # fmt: skip
    return Message(f"alert-1:channel:{kind}", kind, alert, **changed)


def test_webhooks_are_signed_and_carry_a_key():
    with Recorder() as server:
        channel = WebhookChannel(f"{server.url}/hook?token=hidden", secret="s3cret", allow_private=True)
        channel.send(message())
        channel.send(message())
        first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "alert-1:channel:triggered"
    titled = {name.title(): value for name, value in first.headers.items()}
    assert verify("s3cret", titled, first.body, now=time.time())
    assert not verify("s3cret", titled, first.body + b" ", now=time.time())
    assert first.json["alert"]["event"] == {"host": "db1", "cpu": 97}
    assert "hidden" not in repr(channel)
    channel.close()


def test_webhooks_do_not_reach_into_private_networks_unless_told():
    with Recorder() as server:
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(
                DeliveryError, match=r"127\.0\.0\.1, which is no public address.*allow_private"
            ) as error:
                WebhookChannel(url).send(message())
            assert error.value.final
        assert server.requests == []


@pytest.mark.parametrize(
    ("status", "headers", "final", "wait"),
    [
        (400, {}, True, None),
        (404, {}, True, None),
        (302, {"Location": "/"}, True, None),
        (429, {"Retry-After": "7"}, False, 7),
        (500, {}, False, None),
        (503, {"Retry-After": "junk"}, False, None),
    ],
)
def test_answers_say_whether_trying_again_helps(status: int, headers: dict[str, str], final: bool, wait: float | None):
    with Recorder(default=(status, headers, b"no")) as server, pytest.raises(DeliveryError) as error:
        WebhookChannel(server.url, allow_private=True).send(message())
    assert (error.value.final, error.value.retry_after) == (final, wait)
    assert len(server.requests) == 1


def test_pagerduty_gets_what_its_events_api_takes():
    with Recorder(default=(202, {}, b'{"status":"success","dedup_key":"alert-1"}')) as server:
        channel = PagerDutyChannel("routing-key", url=f"{server.url}/v2/enqueue", allow_private=True)
        for kind in (Kind.TRIGGERED, Kind.REMINDER, Kind.ACKNOWLEDGED, Kind.RESOLVED):
            channel.send(message(kind))
        bodies = [request.json for request in server.requests]
    assert [b["event_action"] for b in bodies] == ["trigger", "trigger", "acknowledge", "resolve"]
    assert {b["dedup_key"] for b in bodies} == {"alert-1"}
    assert {b["routing_key"] for b in bodies} == {"routing-key"}
    payload = bodies[0]["payload"]
    assert {"summary", "source", "severity"} <= payload.keys()  # what the API requires
    assert payload["severity"] in {"critical", "error", "warning", "info"}
    assert payload["source"] == "db1"
    assert datetime.datetime.fromisoformat(payload["timestamp"]).tzinfo is not None
    assert bodies[0]["links"] == [{"href": "https://example.org/cpu", "text": "Runbook"}]
    assert "routing-key" not in repr(channel)
    huge = message()
    huge = Message(huge.key, huge.kind, huge.alert.__class__(**{**vars(huge.alert), "event": {"x": "y" * 600_000}}))
    with Recorder(default=(202, {}, b"{}")) as server:
        PagerDutyChannel("k", url=server.url, allow_private=True).send(huge)
        assert len(server.requests[0].body) < 512_000


def test_slack_posts_go_into_the_thread_of_the_first():
    answer = b'{"ok": true, "channel": "C1", "ts": "1503435956.000247"}'
    with Recorder(default=(200, {}, answer)) as server:
        channel = SlackChannel("xoxb-token", "#ops", url=f"{server.url}/api", allow_private=True)
        thread = channel.send(message())
        channel.send(message(Kind.RESOLVED, reference=thread))
        first, second = server.requests
    assert first.path == "/api/chat.postMessage"
    assert first.headers["authorization"] == "Bearer xoxb-token"
    assert first.headers["content-type"].startswith("application/json")
    buttons = [element for block in first.json["blocks"] if block["type"] == "actions" for element in block["elements"]]
    assert [(b["action_id"], b["value"]) for b in buttons] == [("acknowledge", "alert-1"), ("resolve", "alert-1")]
    assert second.json["thread_ts"] == "1503435956.000247"
    assert not any(block["type"] == "actions" for block in second.json["blocks"])
    assert "xoxb" not in repr(channel)


@pytest.mark.parametrize(
    ("error", "final"), [("channel_not_found", True), ("ratelimited", False), ("fatal_error", False)]
)
def test_slack_says_no_with_status_200(error: str, final: bool):
    answer = f'{{"ok": false, "error": "{error}"}}'.encode()
    with Recorder(default=(200, {}, answer)) as server, pytest.raises(DeliveryError, match=error) as raised:
        SlackChannel("t", "#ops", url=server.url, allow_private=True).send(message())
    assert raised.value.final is final


def test_text_messages_are_sent_once_to_each_number():
    ok, busy = (201, {}, b'{"sid": "SM1"}'), (500, {}, b"{}")
    with Recorder() as server:
        server.answers.extend([ok, busy, ok])
        channel = SmsChannel("AC1", "token", sender="+491", to=["+4930", "+4940"], url=server.url, allow_private=True)
        with pytest.raises(DeliveryError, match="1 of 2 numbers"):
            channel.send(message())
        channel.send(message())
        forms = [request.form for request in server.requests]
        assert [form["To"] for form in forms] == ["+4930", "+4940", "+4940"]
        assert server.requests[0].path == "/2010-04-01/Accounts/AC1/Messages.json"
        assert b64decode(server.requests[0].headers["authorization"].removeprefix("Basic ")) == b"AC1:token"
        assert forms[0]["Body"].startswith("[HIGH] High CPU")


def test_apprise_reaches_its_services():
    with Recorder() as server:
        channel = AppriseChannel([server.url.replace("http://", "json://") + "/notify"])
        channel.send(message())
        assert server.requests[0].json["title"] == "High CPU: host=db1 cpu=97"
    with pytest.raises(DeliveryError, match="1 of 1 Apprise services"):
        channel.send(Message("other", Kind.TRIGGERED, message().alert))


class Mailbox:
    """Takes mail from whoever knows the password."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 taken"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 known"


def authenticated(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"pass", handled=False)


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and one that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(public, private)
    return server, ssl.create_default_context(cafile=str(public))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_sent_encrypted_and_answers_the_first(tmp_path: Path, security: str):
    for_server, trusted = certificate(tmp_path)
    box = Mailbox()
    tls = {"ssl_context": for_server} if security == "tls" else {"tls_context": for_server, "require_starttls": True}
    server = Controller(
        box, hostname="localhost", port=free_port(), authenticator=authenticated, auth_required=True,
        auth_require_tls=security == "starttls", **tls,
    )  # fmt: skip
    server.start()
    port = server.port
    settings: dict[str, Any] = {"sender": "thalweg@example.org", "security": security, "context": trusted}
    try:
        channel = EmailChannel("localhost", port, to=["ops@example.org"], user="u", password="pass", **settings)
        first = channel.send(message())
        channel.send(message(Kind.RESOLVED, reference=first))
        texts = [mail.content.decode() for mail in box.mails]
        assert f"Message-ID: {first}" in texts[0]
        assert f"In-Reply-To: {first}" in texts[1]
        assert "Subject: [HIGH] Resolved: High CPU: host=db1 cpu=97" in texts[1]
        assert "pass" not in repr(channel)
        wrong = EmailChannel("localhost", port, to=["ops@example.org"], user="u", password="no", **settings)
        with pytest.raises(DeliveryError, match="refuses user 'u'") as error:
            wrong.send(message())
        assert not error.value.final  # the password may be put right while the alert waits
        nobody = EmailChannel("localhost", port, to=["nobody@example.org"], user="u", password="pass", **settings)
        with pytest.raises(DeliveryError, match=r"refuses all addressees.*no such mailbox") as error:
            nobody.send(message())
        assert error.value.final
        with pytest.raises(DeliveryError, match="certificate"):
            EmailChannel("localhost", port, to=["ops@example.org"], sender="a@example.org", security=security).send(
                message()
            )
    finally:
        server.stop()
