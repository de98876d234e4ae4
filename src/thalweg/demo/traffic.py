"""The demo's seeded traffic: logins, payments and web requests, a tick at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.demo.attacks import COUNTRIES, NORMAL_USERS, TICK_MS, Scenario, scenarios

TOPICS = ("logins", "payments", "requests")

OUT_OF_ORDER_MS = 300
"""Events carry a time up to this much before their tick, as if some had been on their way for longer."""

_SHARES = {"logins": 0.15, "payments": 0.20, "requests": 0.65}
_ROUTES = ("/", "/search", "/products", "/cart", "/checkout", "/api/orders")
_ROUTE_WEIGHTS = (0.22, 0.2, 0.28, 0.14, 0.06, 0.1)
_ROUTE_MS = np.array([12.0, 48.0, 25.0, 30.0, 110.0, 18.0])  # medians of the response times
_MERCHANTS = ("groceries", "travel", "electronics", "fashion", "games", "fuel")
_DEVICES = ("android", "ios", "windows", "mac", "linux")

DAMAGED_EVERY = 50
"""Every so many ticks one request record is cut off in the middle: it must become a dead letter, and harm nothing."""

SCHEMAS: dict[str, dict[str, Any]] = {
    "logins": {"ts": pl.Int64, "user": pl.String, "ip": pl.String, "success": pl.Boolean, "device": pl.String},
    "payments": {
        "ts": pl.Int64,
        "user": pl.String,
        "amount": pl.Float64,
        "country": pl.String,
        "home_country": pl.String,
        "merchant": pl.String,
    },
    "requests": {
        "ts": pl.Int64,
        "ip": pl.String,
        "route": pl.String,
        "url": pl.String,
        "status": pl.Int64,
        "ms": pl.Float64,
    },
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """Everything that happens, from a seed.

    Args:
        seed: two runs with the same seed have the same events.
        rate: ordinary events per second, all topics together.
    """

    seed: int = 7
    rate: int = 1_000

    def tick(self, number: int, now: int) -> dict[str, pl.DataFrame]:
        """The events of one tick by topic, in no order of time, for appending at `now` (ms UTC)."""
        rng = np.random.default_rng((self.seed, 0, number))
        hidden = list(scenarios(self.seed, number, number))
        frames = {}
        for topic in TOPICS:
            count = int(rng.poisson(self.rate * _SHARES[topic] * TICK_MS / 1000))
            ordinary = _ORDINARY[topic](rng, count, number)
            times = pl.Series("ts", now - rng.integers(0, OUT_OF_ORDER_MS, count), dtype=pl.Int64)
            frame = pl.DataFrame([times, *ordinary], schema=SCHEMAS[topic])
            if rows := _hidden(hidden, topic, number, now):
                frame = pl.concat([frame, pl.DataFrame(rows, schema=SCHEMAS[topic])])
            frames[topic] = frame
        return frames

    def damaged(self, number: int) -> bytes | None:
        """The damaged record that the tick has, if any."""
        return b'{"ts": 1700000000000, "ip": "198.51.' if number % DAMAGED_EVERY == DAMAGED_EVERY // 2 else None


def _hidden(hidden: list[Scenario], topic: str, tick: int, now: int) -> list[dict[str, object]]:
    """A scenario's events have the tick's own time, one millisecond apart: their order is theirs to keep."""
    fields = [
        event.fields
        for each in hidden
        for event in each.events
        if event.topic == topic and each.first_tick + event.after == tick
    ]
    return [{"ts": now + i, **each} for i, each in enumerate(fields)]


def _users(numbers: np.ndarray) -> list[str]:
    return [f"user-{n:04d}" for n in numbers.tolist()]


def _addresses(rng: np.random.Generator, count: int) -> list[str]:
    return [f"10.{a}.{b}.{c}" for a, b, c in rng.integers(0, 40, (count, 3)).tolist()]


def _logins(rng: np.random.Generator, count: int, tick: int) -> list[pl.Series]:
    users = rng.integers(0, NORMAL_USERS, count)
    success = np.ones(count, dtype=bool)
    # Who mistypes goes round by the tick, so that nobody fails five times in a minute by chance: a user's turn comes
    # again after NORMAL_USERS / failures ticks, which is more than a minute while failures stay below three per tick.
    failures = min(count, int(rng.integers(0, 3)))
    users[:failures] = (tick * 3 + np.arange(failures)) % NORMAL_USERS
    success[:failures] = False
    return [
        pl.Series("user", _users(users)),
        pl.Series("ip", _addresses(rng, count), dtype=pl.String),
        pl.Series("success", success),
        pl.Series("device", rng.choice(_DEVICES, count).tolist(), dtype=pl.String),
    ]


def _payments(rng: np.random.Generator, count: int, tick: int) -> list[pl.Series]:
    home = rng.integers(0, len(COUNTRIES), count)
    abroad = rng.random(count) < 0.06
    country = np.where(abroad, (home + 1) % len(COUNTRIES), home)
    # Ordinary payments stay below the amount that the fraud rule watches, at home and away.
    amount = np.minimum(rng.lognormal(3.7, 1.1, count), 9_000.0).round(2)
    names = np.array(COUNTRIES)
    return [
        pl.Series("user", _users(rng.integers(0, NORMAL_USERS, count))),
        pl.Series("amount", amount),
        pl.Series("country", names[country].tolist(), dtype=pl.String),
        pl.Series("home_country", names[home].tolist(), dtype=pl.String),
        pl.Series("merchant", rng.choice(_MERCHANTS, count).tolist(), dtype=pl.String),
    ]


def _requests(rng: np.random.Generator, count: int, tick: int) -> list[pl.Series]:
    routes = rng.choice(len(_ROUTES), count, p=_ROUTE_WEIGHTS)
    # A slow spell of the checkout, twenty seconds in every two minutes, for the percentiles to show.
    slow = np.where((routes == 4) & (tick % 1200 >= 900) & (tick % 1200 < 1100), 3.0, 1.0)
    draw = rng.random(count)
    status = np.select([draw < 0.93, draw < 0.97, draw < 0.995], [200, 304, 404], 500)
    names = np.array(_ROUTES)[routes].tolist()
    numbers = rng.integers(1, 9_999, count).tolist()
    return [
        pl.Series("ip", _addresses(rng, count), dtype=pl.String),
        pl.Series("route", names, dtype=pl.String),
        pl.Series("url", [_url(name, n) for name, n in zip(names, numbers, strict=True)], dtype=pl.String),
        pl.Series("status", status, dtype=pl.Int64),
        pl.Series("ms", (rng.lognormal(0.0, 0.55, count) * _ROUTE_MS[routes] * slow).round(1)),
    ]


def _url(route: str, number: int) -> str:
    if route == "/search":
        # Some look for a committee: harmless words that a careless pattern would take for an injection.
        return "/search?q=student+union+select+committee" if number % 97 == 0 else f"/search?q=item+{number}"
    return f"{route}?id={number}" if route != "/" else "/"


_ORDINARY = {"logins": _logins, "payments": _payments, "requests": _requests}
