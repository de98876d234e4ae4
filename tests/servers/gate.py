"""A gate before an HTTP server: TLS, who may pass, and whether anybody may."""

from __future__ import annotations

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx

from tests.servers.http import HttpServer


class Gate(HttpServer):
    """Hands requests on to `target` where the `Authorization` header is the wanted one; answers 401 otherwise.

    Args:
        target: base address of the server behind.
        authorization: the header's value, such as "Bearer secret"; None: anybody may pass.
        folder: where to; then the gate speaks TLS with a certificate of its own, `ca`.
        port: 0: any; that of an earlier gate takes its place.

    Attributes:
        open: while it is not set, requests are taken and not answered.
    """

    def __init__(self, target: str, authorization: str | None, folder: Path | None = None, port: int = 0) -> None:
        self.ca = None if folder is None else folder / "ca.pem"
        self.open = threading.Event()
        self.open.set()
        super().__init__(_handler(target, authorization, self.open), port)
        if folder is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*_certificate(folder))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        scheme = "http" if self.ca is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "ca.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def _handler(target: str, authorization: str | None, is_open: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            is_open.wait()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if authorization is not None and self.headers.get("Authorization") != authorization:
                self._answer(401, b'{"error_code": 40101, "message": "Unauthorized"}')
                return
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            answer = httpx.request(self.command, target + self.path, content=body, headers=headers)
            self._answer(answer.status_code, answer.content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests are no news."""

    return Handler
