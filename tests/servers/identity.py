"""An identity provider: a token endpoint (OIDC client credentials) and the key set that its tokens are checked by."""

from __future__ import annotations

import base64
import json
import time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.servers.http import HttpServer


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class IdentityProvider(HttpServer):
    """Gives tokens to one client; another key than the published one signs those of `forged`.

    Args:
        client, secret: who gets tokens.
        lifetime: of a token, in seconds.
    """

    def __init__(self, client: str, secret: str, lifetime: float = 300) -> None:
        self.client = client
        self.lifetime = lifetime
        self.asked = 0
        self.broken = False
        """Answers 503."""
        self.grants: list[dict[str, list[str]]] = []
        self._authorization = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()
        self._key = rsa.generate_private_key(65537, 2048)
        super().__init__(_handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def keys_url(self) -> str:
        return f"{self.url}/keys"

    def token(self, lifetime: float | None = None, *, forged: bool = False) -> tuple[str, float]:
        """A signed token of the client, and when it expires."""
        now = time.time()
        expiry = float(int(now + (self.lifetime if lifetime is None else lifetime)))
        claims = {"sub": self.client, "iss": self.url, "aud": "kafka", "iat": int(now), "exp": int(expiry)}
        head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        key = rsa.generate_private_key(65537, 2048) if forged else self._key
        return f"{signed}.{_base64(key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}", expiry

    def keys(self) -> dict[str, Any]:
        """The key set that brokers check signatures by."""
        public = self._key.public_key().public_numbers()
        numbers = {"n": public.n, "e": public.e}
        key = {name: _base64(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in numbers.items()}
        return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", **key}]}

    def answer(self, authorization: str | None, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """What the token endpoint says."""
        self.asked += 1
        if self.broken:
            return 503, {"error": "temporarily_unavailable"}
        if authorization != self._authorization or form.get("grant_type") != ["client_credentials"]:
            return 401, {"error": "invalid_client", "error_description": "who are you?"}
        self.grants.append(form)
        token, _ = self.token()
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}


def _handler(provider: IdentityProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, provider.keys())

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
            self._send(*provider.answer(self.headers.get("Authorization"), form))

        def _send(self, status: int, data: dict[str, Any]) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests are no news."""

    return Handler
