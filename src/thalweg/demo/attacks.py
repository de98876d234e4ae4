"""What is hidden in the demo's traffic: attacks that must be found, and look-alikes that must not.

Everything follows from a seed: scenario number k has its kind, its victim, its start and its events from
`(seed, k)` alone. So the demo can say beforehand what will come, and check afterwards what was found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

TICK_MS = 100
"""The generator's step: all events of a tick are appended together."""

_FIRST_START = 15  # ticks
_SPACING = 35  # ticks between two starts, plus or minus
_JITTER = 10


class Kind(StrEnum):
    """Kinds of scenarios; the first three are attacks, the others look like them."""

    BRUTE_FORCE = "brute force"
    INJECTION = "SQL injection"
    FRAUD = "payment fraud"
    TYPO = "forgotten password"
    AT_HOME = "large payment at home"
    BLOCKED = "blocked scanner"
    SLOW = "slow failures"

    @property
    def attack(self) -> bool:
        return self in _ATTACKS


_ATTACKS = (Kind.BRUTE_FORCE, Kind.INJECTION, Kind.FRAUD)
_FIRST_ROUND = (Kind.BRUTE_FORCE, Kind.INJECTION, Kind.FRAUD, Kind.TYPO, Kind.AT_HOME, Kind.BLOCKED, Kind.SLOW)

COUNTRIES = ("DE", "FR", "US", "GB", "ES", "JP")
NORMAL_USERS = 2_000
"""`user-0000` and up make the ordinary traffic; scenarios have users and addresses of their own beyond these."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a scenario: `after` ticks since its start, for one topic."""

    after: int
    topic: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One attack or look-alike."""

    number: int
    kind: Kind
    key: str
    """The user or address that the pattern is keyed by."""
    first_tick: int
    events: tuple[Event, ...]
    note: str

    @property
    def last_tick(self) -> int:
        return self.first_tick + self.events[-1].after

    @property
    def detectable_tick(self) -> int:
        """The tick with the event that completes it."""
        if self.kind is Kind.BRUTE_FORCE:
            return self.first_tick + self.events[FAILURES - 1].after
        return self.first_tick + self.events[0 if self.kind is Kind.FRAUD else -1].after


FAILURES = 5
"""Failed logins within a minute that make a brute-force match."""
FRAUD_AMOUNT = 10_000
"""A payment above this, away from home, is an alert."""


@lru_cache(maxsize=4096)
def scenario(seed: int, number: int) -> Scenario:
    """The `number`-th scenario of a seed, from 0."""
    rng = np.random.default_rng((seed, 1, number))
    if number < len(_FIRST_ROUND):
        kind = _FIRST_ROUND[number]
    else:
        round_number, place = divmod(number, len(_FIRST_ROUND))
        order = np.random.default_rng((seed, 2, round_number)).permutation(len(_FIRST_ROUND))
        kind = _FIRST_ROUND[int(order[place])]
    start = _FIRST_START + number * _SPACING + (int(rng.integers(0, _JITTER)) if number else 0)
    key, events, note = _SCRIPTS[kind](number, rng)
    return Scenario(number, kind, key, start, tuple(events), note)


def scenarios(seed: int, first_tick: int, last_tick: int) -> Iterator[Scenario]:
    """Those with any event in `first_tick … last_tick`, in order of their start."""
    longest = 1_000  # ticks; no scenario is longer
    number = max(0, (first_tick - longest - _FIRST_START) // _SPACING - 1)
    while (found := scenario(seed, number)).first_tick <= last_tick:
        if found.last_tick >= first_tick:
            yield found
        number += 1


def _spread(rng: np.random.Generator, count: int, ticks: int) -> list[int]:
    """`count` ascending ticks, the first 0, within `ticks`."""
    return [0, *sorted(int(t) for t in rng.integers(1, ticks, count - 1))]


def _user(number: int) -> str:
    return f"user-{NORMAL_USERS + number:04d}"


def _address(number: int) -> str:
    return f"203.0.{113 + number // 250 % 100}.{number % 250 + 1}"


def _login(after: int, user: str, ip: str, success: bool) -> Event:
    return Event(after, "logins", {"user": user, "ip": ip, "success": success, "device": "unknown"})


def _request(after: int, ip: str, url: str, status: int) -> Event:
    return Event(after, "requests", {"ip": ip, "route": "/products", "url": url, "status": status, "ms": 38.0})


def _brute_force(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    user, count = _user(number), int(rng.integers(FAILURES, FAILURES + 5))
    events = [_login(t, user, _address(number), False) for t in _spread(rng, count, 30)]
    return user, events, f"{count} failed logins in {events[-1].after / 10:.1f} s"


def _typo(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    user, count = _user(number), FAILURES - 1
    times = _spread(rng, count + 1, 100)
    events = [_login(t, user, _address(number), i == count) for i, t in enumerate(times)]
    return user, events, f"{count} failed logins, then the right password"


def _slow(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    user = _user(number)
    events = [_login(i * 160 + int(rng.integers(0, 5)), user, _address(number), False) for i in range(FAILURES)]
    return user, events, f"{FAILURES} failed logins, but over a minute"


_PROBES = (
    "/products?id=7' UNION SELECT null,null--",
    "/products?id=7' UNION SELECT table_name,null FROM information_schema.tables--",
    "/products?id=7' UNION SELECT login,hash FROM users--",
    "/products?id=-1) UNION SELECT version(),user()--",
)


def _probe(rng: np.random.Generator) -> str:
    return _PROBES[int(rng.integers(len(_PROBES)))]


def _injection(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    ip, count = _address(number), int(rng.integers(2, 5))
    times = _spread(rng, count + 1, 30)
    events = [_request(t, ip, _probe(rng), int(rng.choice([400, 403, 500]))) for t in times[:-1]]
    events.append(_request(times[-1] + 1, ip, _PROBES[2], 200))
    return ip, events, f"{count} probes refused, then one gets through"


def _blocked(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    ip = _address(number)
    events = [_request(t, ip, _probe(rng), 403) for t in _spread(rng, 4, 40)]
    return ip, events, "4 probes, all refused"


def _payment(after: int, user: str, amount: float, country: str, home: str) -> Event:
    fields = {"user": user, "amount": amount, "country": country, "home_country": home, "merchant": "electronics"}
    return Event(after, "payments", fields)


def _fraud(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    user = _user(number)
    home, abroad = (COUNTRIES[i] for i in rng.choice(len(COUNTRIES), 2, replace=False))
    amounts = [round(float(rng.uniform(1.2, 4.8)) * FRAUD_AMOUNT, 2) for _ in range(int(rng.integers(1, 4)))]
    times = _spread(rng, len(amounts), 20)
    events = [_payment(t, user, amount, abroad, home) for t, amount in zip(times, amounts, strict=True)]
    return user, events, f"{len(amounts)} × > {FRAUD_AMOUNT:,} in {abroad}, home is {home}"


def _at_home(number: int, rng: np.random.Generator) -> tuple[str, list[Event], str]:
    user, home = _user(number), COUNTRIES[int(rng.integers(len(COUNTRIES)))]
    amount = round(float(rng.uniform(1.2, 4.8)) * FRAUD_AMOUNT, 2)
    return user, [_payment(0, user, amount, home, home)], f"{amount:,.0f} in {home}, which is home"


_SCRIPTS = {
    Kind.BRUTE_FORCE: _brute_force,
    Kind.INJECTION: _injection,
    Kind.FRAUD: _fraud,
    Kind.TYPO: _typo,
    Kind.AT_HOME: _at_home,
    Kind.BLOCKED: _blocked,
    Kind.SLOW: _slow,
}
