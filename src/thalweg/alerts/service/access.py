"""Who may do what: API keys with roles, kept as hashes, each with a rate limit; every change is audited."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from thalweg.alerts.limits import ChannelLimits, RateLimit
from thalweg.errors import ConfigurationError


class Role(IntEnum):
    """Each may do what the ones before it may."""

    VIEWER = 1
    """Reads."""
    RESPONDER = 2
    """Acknowledges, resolves, comments, assigns, snoozes, silences, sends events."""
    ADMIN = 3
    """Tests channels, reads the audit of the API."""


@dataclass(frozen=True)
class ApiKey:
    """A key of the API. Only its SHA-256 is kept: keys are long and random, so that needs no salt.

    >>> key, secret = ApiKey.new("ada", Role.RESPONDER)
    >>> key.fits(secret), key.fits("guess")
    (True, False)
    """

    name: str
    role: Role
    sha256: str

    @classmethod
    def new(cls, name: str, role: Role) -> tuple[ApiKey, str]:
        """A key and its secret, which is shown once and never again."""
        secret = "tw_" + secrets.token_urlsafe(32)
        return cls(name, role, hashlib.sha256(secret.encode()).hexdigest()), secret

    @classmethod
    def of(cls, given: Mapping[str, str], where: str) -> ApiKey:
        """A key of a configuration: `name`, `role`, and `sha256` or `secret`.

        Raises:
            ConfigurationError: it is incomplete, or the role is unknown.
        """
        role = str(given.get("role", "viewer")).upper()
        if role not in Role.__members__:
            raise ConfigurationError(f"{where}: role {given.get('role')!r}; there are viewer, responder, admin")
        secret, digest = given.get("secret"), given.get("sha256")
        if not given.get("name") or (secret is None) == (digest is None):
            raise ConfigurationError(f"{where}: a key needs a name, and either `secret` or `sha256`")
        if secret is not None:
            if len(secret) < 20:
                raise ConfigurationError(f"{where}: the secret of {given['name']!r} is too short; use 20 characters …")
            digest = hashlib.sha256(secret.encode()).hexdigest()
        return cls(given["name"], Role[role], str(digest))

    def fits(self, secret: str) -> bool:
        """Whether this is its secret; takes the same time whatever is wrong with it."""
        return hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), self.sha256)


class Access:
    """Finds the key of a request, and how often it may come.

    Args:
        per_minute: requests of one key; failed attempts of all together are limited to a tenth of it.
    """

    def __init__(self, keys: Sequence[ApiKey], per_minute: int = 1_200) -> None:
        if not keys:
            raise ConfigurationError("the alert service needs at least one API key; `thalweg alerts new-key` makes one")
        names = [key.name for key in keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(f"two API keys are called {sorted(twice)[0]!r}")
        self._keys = list(keys)
        self._rates = {key.name: RateLimit(ChannelLimits(per_minute=per_minute)) for key in keys}
        self._strangers = RateLimit(ChannelLimits(per_minute=max(1, per_minute // 10)))

    def key_of(self, authorization: str | None) -> ApiKey | None:
        """The key of an `Authorization: Bearer …` header; None: there is none that fits."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            return None
        found = [key for key in self._keys if key.fits(secret.strip())]  # all of them: takes the same time
        return found[0] if found else None

    def wait(self, key: ApiKey | None) -> int:
        """Seconds until the next request may come; 0: now."""
        rate = self._strangers if key is None else self._rates[key.name]
        now = time.monotonic_ns() // 1_000_000
        return 0 if rate.take(now) else -(-rate.wait(now) // 1000)
