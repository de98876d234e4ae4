"""Kafka's protocol over a socket of our own, for the few requests that librdkafka does not know. One at a time."""

from __future__ import annotations

import socket
import ssl
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._scram import Scram

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

T = TypeVar("T")
_SASL_HANDSHAKE, _SASL_AUTHENTICATE = (17, 1), (36, 0)
_LARGEST = 100 * 1024 * 1024


def text(value: str | None) -> bytes:
    """A nullable string as the protocol has it."""
    if value is None:
        return struct.pack(">h", -1)
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def array(items: list[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


class Reader:
    """Reads an answer from front to back.

    Raises:
        ConnectorError: it ends too early.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, format: str) -> int:
        return int(self._unpack(format))

    def double(self) -> float:
        return float(self._unpack("d"))

    def text(self) -> str | None:
        size = self.number("h")
        return None if size < 0 else self._take(size).decode(errors="replace")

    def data(self) -> bytes:
        return self._take(max(0, self.number("i")))

    def array(self, read: Callable[[], T]) -> list[T]:
        return [read() for _ in range(self.number("i"))]

    def _unpack(self, format: str) -> float:
        value: float = struct.unpack(f">{format}", self._take(struct.calcsize(f">{format}")))[0]
        return value

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise ConnectorError("the broker's answer ends too early")
        self._at += size
        return taken


class Connection:
    """One connection to one broker, authenticated.

    Raises:
        ConnectorError: it can't be reached, or does not let us in.
        ConfigurationError: OAUTHBEARER by settings of librdkafka's own, which this connection does not know.
    """

    def __init__(self, host: str, port: int, security: KafkaSecurity | None, timeout: float) -> None:
        self._where = f"{host}:{port}"
        self._correlation = 0
        try:
            self._socket: socket.socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise ConnectorError(f"the broker at {self._where} can't be reached: {error}") from error
        try:
            if security is not None:
                self._secure(security, host)
        except BaseException:
            self.close()
            raise

    def ask(self, api: tuple[int, int], body: bytes) -> Reader:
        """Sends a request (key and version) and gives the answer behind its header."""
        self._correlation += 1
        message = struct.pack(">hhi", *api, self._correlation) + text("thalweg-admin") + body
        try:
            self._socket.sendall(struct.pack(">i", len(message)) + message)
            size = struct.unpack(">i", self._receive(4))[0]
            if not 4 <= size <= _LARGEST:
                raise ConnectorError(f"{self._where} does not speak Kafka's protocol (TLS or SASL may be needed)")
            answer = Reader(self._receive(size))
        except OSError as error:
            raise ConnectorError(f"the broker at {self._where} does not answer: {error}") from error
        if answer.number("i") != self._correlation:
            raise ConnectorError(f"the broker at {self._where} answers another question")
        return answer

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _receive(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                raise ConnectorError(f"the broker at {self._where} closed the connection (TLS or SASL may be needed)")
            parts += part
        return parts

    # ---------------------------------------------------------------- who is who

    def _secure(self, security: KafkaSecurity, host: str) -> None:
        if security.protocol.endswith("SSL"):
            try:
                self._socket = _tls(security).wrap_socket(self._socket, server_hostname=host)
            except OSError as error:
                raise ConnectorError(f"no TLS with the broker at {self._where}: {error}") from error
        if security.protocol.startswith("SASL"):
            self._authenticate(security)

    def _authenticate(self, security: KafkaSecurity) -> None:
        mechanism, user, password = security.mechanism, security.username or "", security.password or ""
        tokens = security.tokens
        if mechanism == "OAUTHBEARER" and tokens is None:
            raise ConfigurationError(
                "log directories and quotas can't be asked for with these settings of OAUTHBEARER: use token_url or "
                "token, SCRAM or PLAIN"
            )
        answer = self.ask(_SASL_HANDSHAKE, text(mechanism))
        if answer.number("h"):
            offered = ", ".join(name or "" for name in answer.array(answer.text))
            raise ConnectorError(f"the broker at {self._where} takes {offered}, not {mechanism}")
        if mechanism == "PLAIN":
            self._step(f"\0{user}\0{password}".encode())
            return
        if tokens is not None:
            refusal = self._step(f"n,,\x01auth=Bearer {tokens()[0]}\x01\x01".encode())
            if refusal:
                raise ConnectorError(f"the broker at {self._where} does not take the token: {refusal.decode()}")
            return
        scram = Scram(user, password, (mechanism or "").removeprefix("SCRAM-"))
        final = self._step(scram.final(self._step(scram.first())))
        scram.check(final)

    def _step(self, data: bytes) -> bytes:
        answer = self.ask(_SASL_AUTHENTICATE, struct.pack(">i", len(data)) + data)
        code, said = answer.number("h"), answer.text()
        if code:
            raise ConnectorError(f"the broker at {self._where} does not let this client in: {said or f'error {code}'}")
        return answer.data()


def _tls(security: KafkaSecurity) -> ssl.SSLContext:
    pem = security.ca if security.ca is not None and security.ca.startswith("-----") else None
    context = ssl.create_default_context(cafile=None if pem else security.ca, cadata=pem)
    context.check_hostname = security.verify_hostname
    if security.certificate is not None and security.key is not None:
        with tempfile.TemporaryDirectory() as folder:  # the standard library reads certificates from files only
            certificate = _file(Path(folder) / "certificate", security.certificate)
            key = _file(Path(folder) / "key", security.key)
            context.load_cert_chain(certificate, key, security.key_password)
    return context


def _file(path: Path, given: str) -> str:
    if not given.startswith("-----"):
        return given
    path.touch(mode=0o600)
    path.write_text(given)
    return str(path)
