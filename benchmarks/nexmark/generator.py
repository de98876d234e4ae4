"""A seeded Nexmark generator: persons, auctions and bids as columns, in the proportions and skews of the benchmark.

    python -m benchmarks.nexmark.generator --brokers host:port [--events 1000000] [--seed 7] [--prefix nexmark-]

Of 50 events the first is a person, the next three are auctions, the others bids; event n happens at `START + n /
EVENTS_PER_SECOND`. Ids count from 1,000. Half of the bids go to the hot auction (the last whose id ends in 00), three
quarters of auctions and bids come from hot sellers and bidders; the others to and from what was new of late. The same
seed, rate and number of events give the same events.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s = npt.NDArray[np.int64]

START = 1_436_918_400_000
"""2015-07-15, as in the published data."""
EVENTS_PER_SECOND = 10_000
FIRST_ID = 1_000
PERSONS, AUCTIONS, ROUND = 1, 3, 50
"""Of a round of 50 events."""
CATEGORIES = 5
FIRST_CATEGORY = 10
IN_FLIGHT = 100
"""Auctions that a bid may go to: the newest ones."""
ACTIVE = 1_000
"""Persons that sell and bid: the newest ones."""
HOT_EVERY = 100
OPEN_MS = 2_000
"""How long an auction is open on average."""

FIRST_NAMES = "Peter Paul Luke John Saul Vicky Kate Julie Sarah Deiter Walter".lower().split()
LAST_NAMES = "Shultz Abrams Spencer White Bartels Walton Smith Jones Noris".lower().split()
STATES = ["az", "ca", "id", "or", "wa", "wy"]
CITIES = [
    "phoenix",
    "los angeles",
    "san francisco",
    "boise",
    "portland",
    "bend",
    "redmond",
    "seattle",
    "kent",
    "cheyenne",
]
HOT_CHANNELS = ["Google", "Facebook", "Baidu", "Apple"]
_CHUNK = 500_000
_POOL = 4_096


@dataclass(frozen=True)
class Chunk:
    """Events in a row; columns as in `queries`, times in ms."""

    person: pl.DataFrame
    auction: pl.DataFrame
    bid: pl.DataFrame

    def items(self) -> list[tuple[str, pl.DataFrame]]:
        """By stream."""
        return [("person", self.person), ("auction", self.auction), ("bid", self.bid)]


def chunks(events: int, seed: int = 7, rate: int = EVENTS_PER_SECOND) -> Iterator[Chunk]:
    """So many events, in chunks of at most half a million; `rate` is per second of event time."""
    texts = _Texts(seed)
    for number, first in enumerate(range(0, events, _CHUNK)):
        index = np.arange(first, min(first + _CHUNK, events), dtype=np.int64)
        random = np.random.default_rng([seed, number])
        place = index % ROUND
        times = START + index * 1_000 // rate
        yield Chunk(
            _persons(*_where(place < PERSONS, index, times), random, texts),
            _auctions(*_where((place >= PERSONS) & (place < PERSONS + AUCTIONS), index, times), random, texts),
            _bids(*_where(place >= PERSONS + AUCTIONS, index, times), random, texts),
        )


class _Texts:
    """A pool of random words: drawing from it is a gather."""

    def __init__(self, seed: int) -> None:
        letters = np.random.default_rng([seed, 2**31]).integers(97, 123, _POOL * 100, dtype=np.uint8).tobytes().decode()
        self.short = pl.Series([letters[i * 20 : i * 20 + 5 + i % 15] for i in range(_POOL)])
        self.long = pl.Series([letters[i * 100 : i * 100 + 50 + i % 50] for i in range(_POOL)])

    def draw(self, pool: pl.Series, random: np.random.Generator, n: int) -> pl.Series:
        return pool.gather(random.integers(0, len(pool), n))


def _where(wanted: npt.NDArray[np.bool_], index: Int64s, times: Int64s) -> tuple[Int64s, Int64s]:
    return index[wanted], times[wanted]


def _last_person(index: Int64s) -> Int64s:
    """The newest person before an event."""
    return FIRST_ID + index // ROUND


def _last_auction(index: Int64s) -> Int64s:
    """The newest auction before an event; the first one where there is none yet."""
    place = np.clip(index % ROUND - PERSONS, 0, AUCTIONS)
    return np.maximum(FIRST_ID, FIRST_ID + index // ROUND * AUCTIONS + place - 1)


def _among(newest: Int64s, window: int, hot: float, offset: int, random: np.random.Generator) -> Int64s:
    """Ids: the hot one, or one of the newest `window`."""
    n = len(newest)
    first = np.maximum(newest - window + 1, FIRST_ID)
    any_of_them = first + (random.random(n) * (newest - first + 1)).astype(np.int64)
    hottest = np.maximum(newest // HOT_EVERY * HOT_EVERY + offset, FIRST_ID)
    return np.where((random.random(n) < hot) & (hottest <= newest), hottest, any_of_them)


def _pick(values: list[str], random: np.random.Generator, n: int) -> pl.Series:
    return pl.Series(values).gather(random.integers(0, len(values), n))


def _prices(random: np.random.Generator, n: int) -> Int64s:
    return np.round(10 ** (random.random(n) * 6) * 100).astype(np.int64)


def _persons(index: Int64s, times: Int64s, random: np.random.Generator, texts: _Texts) -> pl.DataFrame:
    n = len(index)
    card = pl.Series(random.integers(10**15, 10**16, n)).cast(pl.String)
    return pl.DataFrame(
        {
            "id": _last_person(index),
            "name": _pick(FIRST_NAMES, random, n) + " " + _pick(LAST_NAMES, random, n),
            "email_address": texts.draw(texts.short, random, n) + "@" + texts.draw(texts.short, random, n) + ".com",
            "credit_card": card,
            "city": _pick(CITIES, random, n),
            "state": _pick(STATES, random, n),
            "date_time": times,
            "extra": texts.draw(texts.long, random, n),
        }
    )


def _auctions(index: Int64s, times: Int64s, random: np.random.Generator, texts: _Texts) -> pl.DataFrame:
    n = len(index)
    initial = _prices(random, n)
    return pl.DataFrame(
        {
            "id": FIRST_ID + index // ROUND * AUCTIONS + index % ROUND - PERSONS,
            "item_name": texts.draw(texts.short, random, n),
            "description": texts.draw(texts.long, random, n),
            "initial_bid": initial,
            "reserve": initial + _prices(random, n),
            "date_time": times,
            "expires": times + 1 + random.integers(0, 2 * OPEN_MS, n),
            "seller": _among(_last_person(index), ACTIVE, 0.75, 0, random),
            "category": FIRST_CATEGORY + random.integers(0, CATEGORIES, n),
            "extra": texts.draw(texts.long, random, n),
        }
    )


def _bids(index: Int64s, times: Int64s, random: np.random.Generator, texts: _Texts) -> pl.DataFrame:
    n = len(index)
    number = random.integers(0, 10_000, n)
    hot = random.random(n) < 0.5
    channel = pl.select(
        pl.when(pl.Series(hot))
        .then(_pick(HOT_CHANNELS, random, n))
        .otherwise("channel-" + pl.Series(number).cast(pl.String))
    ).to_series()
    path = pl.concat_str(*(texts.draw(texts.short, random, n).alias(part) for part in "abc"), separator="/")
    wanted = (
        pl.when(pl.Series(hot)).then(pl.lit("")).otherwise("&channel_id=" + pl.Series(number * 7_919).cast(pl.String))
    )
    url = pl.concat_str(pl.lit("https://www.nexmark.com/"), path, pl.lit("/item.htm?query=1"), wanted)
    return pl.DataFrame(
        {
            "auction": _among(_last_auction(index), IN_FLIGHT, 0.5, 0, random),
            "bidder": _among(_last_person(index), ACTIVE, 0.75, 1, random),
            "price": _prices(random, n),
            "channel": channel,
            "url": pl.select(url.alias("url")).to_series(),
            "date_time": times,
            "extra": texts.draw(texts.long, random, n),
        }
    )


def load(brokers: str, prefix: str, events: int, seed: int = 7, *, partitions: int = 1) -> dict[str, int]:
    """Writes the events to the topics `<prefix>person`, `<prefix>auction` and `<prefix>bid`, as JSON keyed by id.

    Returns:
        How many each got.
    """
    from thalweg.kafka import KafkaAdmin, KafkaProducer

    keys = {"person": "id", "auction": "id", "bid": "auction"}
    counts = dict.fromkeys(keys, 0)
    admin = KafkaAdmin(brokers)
    for name in keys:
        admin.create_topic(f"{prefix}{name}", partitions=partitions, config={"retention.ms": "-1"})
    with KafkaProducer(brokers, linger_ms=5) as producer:
        for chunk in chunks(events, seed):
            for name, frame in chunk.items():
                producer.send_frame(f"{prefix}{name}", frame, key=keys[name], timestamp="date_time")
                counts[name] += frame.height
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--prefix", default="nexmark-")
    options = parser.parse_args()
    print(load(options.brokers, options.prefix, options.events, options.seed))


if __name__ == "__main__":
    main()
