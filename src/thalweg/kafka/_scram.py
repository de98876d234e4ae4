"""The client's part of SCRAM (RFC 5802), without channel binding."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode

from thalweg.errors import ConnectorError


class Scram:
    """One authentication: `first` message, `final` message for the server's challenge, `check` of its proof.

    Args:
        hash: "SHA-256" or "SHA-512".
    """

    def __init__(self, user: str, password: str, hash: str, nonce: str | None = None) -> None:
        self._name = hash.replace("-", "").lower()
        self._password = password.encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self._nonce}"
        self._signature = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def final(self, challenge: bytes) -> bytes:
        """The proof that we know the password.

        Raises:
            ConnectorError: the challenge is not an answer to our first message.
        """
        fields = _fields(challenge)
        nonce, salt, rounds = fields.get("r", ""), fields.get("s", ""), fields.get("i", "")
        if not nonce.startswith(self._nonce) or not rounds.isdigit():
            raise ConnectorError("SCRAM: the server's challenge does not belong to this authentication")
        salted = hashlib.pbkdf2_hmac(self._name, self._password, b64decode(salt), int(rounds))
        without_proof = f"c=biws,r={nonce}"
        signed = ",".join((self._bare, challenge.decode(), without_proof)).encode()
        key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self._name, key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._signature = self._mac(self._mac(salted, b"Server Key"), signed)
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def check(self, final: bytes) -> None:
        """Makes sure that the server knows the password too.

        Raises:
            ConnectorError: it does not.
        """
        if not hmac.compare_digest(b64decode(_fields(final).get("v", "")), self._signature):
            raise ConnectorError("SCRAM: the server could not prove that it knows the password")

    def _mac(self, key: bytes, data: bytes) -> bytes:
        return hmac.new(key, data, self._name).digest()


def _fields(message: bytes) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in message.decode().split(","))
