"""The Nexmark queries in the public API: q0 to q22, and the further ones of RisingWave's test suite.

Each takes the three streams and gives a result. Times are Int64, ms UTC. Where the published text and the classic
benchmark differ (q6, q16), the text of `tests/conformance/data/nexmark` counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from thalweg import App, DataStream
from thalweg.analytics import average, collect, count, count_distinct, max_, min_, sum_
from thalweg.streams import Interval, SessionWindow, SlidingWindow, TimeSemantics, TumblingWindow

col = pl.col

PERSON = {
    "id": int, "name": str, "email_address": str, "credit_card": str, "city": str, "state": str, "date_time": int,
    "extra": str,
}  # fmt: skip
AUCTION = {
    "id": int, "item_name": str, "description": str, "initial_bid": int, "reserve": int, "date_time": int,
    "expires": int, "seller": int, "category": int, "extra": str,
}  # fmt: skip
BID = {
    "auction": int, "bidder": int, "price": int, "channel": str, "url": str, "date_time": int, "extra": str,
}  # fmt: skip


@dataclass(frozen=True)
class Streams:
    """The three inputs."""

    person: DataStream
    auction: DataStream
    bid: DataStream

    @classmethod
    def of(cls, app: App, *, prefix: str = "", watermark: int = 0) -> Streams:
        """Topics `<prefix>person` and so on.

        Args:
            watermark: how far events may be out of order, ms.
        """
        person, auction, bid = (
            app.stream(f"{prefix}{name}", schema=schema, timestamp="date_time", watermark=watermark)
            for name, schema in (("person", PERSON), ("auction", AUCTION), ("bid", BID))
        )
        return cls(person, auction, bid)


View = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Result:
    """What a query gives.

    Attributes:
        stream: the rows, appended or changing.
        view: what remains to be done where the rows are read: order, or lists as rows.
    """

    stream: DataStream
    view: View = lambda frame: frame


QUERIES: dict[str, Callable[[Streams], Result]] = {}


def query(build: Callable[[Streams], DataStream | Result]) -> Callable[[Streams], Result]:
    """Registers a query under the name of its function."""

    def result(streams: Streams) -> Result:
        made = build(streams)
        return made if isinstance(made, Result) else Result(made)

    QUERIES[build.__name__] = result
    return result


# -- parts that several queries share

EUROS = col("price").cast(pl.Decimal(38, 3)) * pl.lit(Decimal("0.908"))
TIME = pl.from_epoch("date_time", "ms")
DAY = TIME.dt.strftime("%Y-%m-%d")
CLASSES = {"rank1": col("price") < 10_000, "rank3": col("price") >= 1_000_000}
CLASSES["rank2"] = ~CLASSES["rank1"] & ~CLASSES["rank3"]


def valid_bids(s: Streams, *columns: str) -> DataStream:
    """Each bid beside its auction (whose columns are given), where it was made while the auction was open."""
    auctions = s.auction.select("id", *columns, opened=col("date_time"), closes=col("expires"))
    bids = s.bid.select("auction", "bidder", "price", bid_date_time=col("date_time"))
    made_in_time = col("bid_date_time").is_between(col("opened"), col("closes"))
    return auctions.join(bids, on={"id": "auction"}).filter(made_in_time)


def highest_valid_bids(s: Streams) -> DataStream:
    """The highest valid bid of each auction, as it is now."""
    return valid_bids(s, "category").key_by("id", "category").aggregate(final=max_("price"))


def bid_counts(s: Streams) -> DataStream:
    """How many bids each auction has, as it is now."""
    return s.bid.key_by("auction").aggregate(bid_count=count())


def bidding_statistics(bids: DataStream) -> DataStream:
    """Bids, bidders and auctions: in all and by price class."""

    def by_class(name: str) -> dict[str, pl.Expr]:
        return {what: pl.when(CLASSES[name]).then(what) for what in ("auction", "bidder", "price")}

    aggregates: dict[str, object] = {"total_bids": count()}
    aggregates |= {f"{name}_bids": count(by_class(name)["price"]) for name in sorted(CLASSES)}
    for what, plural in (("bidder", "bidders"), ("auction", "auctions")):
        aggregates[f"total_{plural}"] = count_distinct(what)
        aggregates |= {f"{name}_{plural}": count_distinct(by_class(name)[what]) for name in sorted(CLASSES)}
    return bids.aggregate(**aggregates)


# -- the queries


@query
def q0(s: Streams) -> DataStream:
    """Pass through."""
    return s.bid.select("auction", "bidder", "price", "date_time")


@query
def q1(s: Streams) -> DataStream:
    """Currency conversion."""
    return s.bid.select("auction", "bidder", "date_time", price=EUROS)


@query
def q2(s: Streams) -> DataStream:
    """Selection."""
    return s.bid.filter(col("auction").is_in([1007, 1020, 2001, 2019, 2087])).select("auction", "price")


@query
def q3(s: Streams) -> DataStream:
    """Local item suggestion."""
    auctions = s.auction.filter(col("category") == 10).select("id", "seller")
    sellers = s.person.filter(col("state").is_in(["or", "id", "ca"]))
    people = sellers.select("name", "city", "state", person=col("id"))
    return auctions.join(people, on={"seller": "person"}).select("name", "city", "state", "id")


@query
def q4(s: Streams) -> DataStream:
    """Average price for a category."""
    return highest_valid_bids(s).group_by("category").aggregate(avg=average("final"))


@query
def q5(s: Streams) -> DataStream:
    """Hot items."""
    counts = s.bid.key_by("auction").window(SlidingWindow("10s", "2s")).aggregate(num=count())
    # Results of a window are timed by its end, so a tumbling window of the slide's size holds those of one window.
    step = TumblingWindow("2s")
    most = counts.select("num").window(step).aggregate(most=max_("num")).select("most")
    return counts.select("auction", "num").join(most, window=step).filter(col("num") == col("most"))


@query
def q6_group_top1(s: Streams) -> Result:
    """Average of a seller's last sales."""
    kept = valid_bids(s, "seller").group_by("id").top_n(1, by=["price", "bid_date_time"], descending=False)
    sales = kept.group_by("seller").aggregate(sales=collect(pl.struct("bid_date_time", "id", "price")))
    mean = pl.element().struct.field("price").cast(pl.Float64).rolling_mean(11, min_samples=1)
    means = sales.select("seller", avg=col("sales").list.eval(mean))
    return Result(means, lambda frame: frame.explode("avg"))


@query
def q7(s: Streams) -> DataStream:
    """Highest bid."""
    highest = s.bid.window(TumblingWindow("10s")).aggregate(price=max_("price")).select("price")
    # The highest is timed by the last millisecond of its window: bids from the window's start to its very end.
    bids = s.bid.select("auction", "price", "bidder", "date_time")
    return bids.join(highest, on="price", within=Interval(-9_999, 1))


@query
def q8(s: Streams) -> DataStream:
    """Monitor new users."""
    window = TumblingWindow("10s")
    people = s.person.key_by("id", "name").window(window).aggregate(n=count())
    sellers = s.auction.key_by("seller").window(window).aggregate(m=count())
    both = people.join(sellers, on={"id": "seller", "window_start": "window_start"}, within=Interval(0, 0))
    return both.select("id", "name", starttime=col("window_start"))


@query
def q9(s: Streams) -> DataStream:
    """Winning bids."""
    columns = [name for name in AUCTION if name not in ("id", "extra", "date_time", "expires")]
    best = valid_bids(s, *columns).group_by("id")
    won = best.top_n(1, by=["price", "bid_date_time"], descending=[True, False])
    return won.with_columns(date_time=col("opened"), expires=col("closes"), auction=col("id"))


@query
def q10(s: Streams) -> DataStream:
    """Log to a partitioned file system."""
    return s.bid.select("auction", "bidder", "price", "date_time", date=DAY, time=TIME.dt.strftime("%I:%M"))


@query
def q11(s: Streams) -> DataStream:
    """User sessions."""
    sessions = s.bid.key_by("bidder").window(SessionWindow("10s")).aggregate(bid_count=count())
    return sessions.select("bidder", "bid_count", starttime=col("window_start"), endtime=col("window_end"))


@query
def q12(s: Streams) -> DataStream:
    """Processing-time windows."""
    windows = s.bid.key_by("bidder").window(TumblingWindow("10s"), time_semantics=TimeSemantics.PROCESSING_TIME)
    return windows.aggregate(bid_count=count()).select("bidder", "bid_count")


SIDE = pl.DataFrame({"key": range(10_000), "value": [f"value {key}" for key in range(10_000)]})
"""The side input of q13."""


@query
def q13(s: Streams) -> DataStream:
    """Join with a bounded side input."""
    bids = s.bid.with_columns(key=col("auction") % 10_000)
    return bids.join(SIDE, on="key").select("auction", "bidder", "price", "date_time", "value")


@query
def q14(s: Streams) -> DataStream:
    """Calculation."""
    hour = TIME.dt.hour()
    part = pl.when(hour.is_between(8, 18)).then(pl.lit("dayTime"))
    part = part.when((hour <= 6) | (hour >= 20)).then(pl.lit("nightTime")).otherwise(pl.lit("otherTime"))
    wanted = s.bid.with_columns(price=EUROS).filter((col("price") > 1_000_000) & (col("price") < 50_000_000))
    letters = col("extra").str.count_matches("c", literal=True).cast(pl.Int64)
    return wanted.select("auction", "bidder", "price", "date_time", bidtimetype=part, c_counts=letters)


@query
def q15(s: Streams) -> DataStream:
    """Bidding statistics."""
    return bidding_statistics(s.bid.with_columns(day=DAY).key_by("day"))


@query
def q16(s: Streams) -> DataStream:
    """Channel statistics."""
    bids = s.bid.with_columns(day=DAY, minute=TIME.dt.strftime("%I:%m")).key_by("channel", "day")
    minutes = bids.aggregate(minute=max_("minute"))
    return bidding_statistics(bids).join(minutes, on=["channel", "day"])


@query
def q17(s: Streams) -> DataStream:
    """Auction statistics."""
    ranks = {f"{name}_bids": count(pl.when(CLASSES[name]).then("price")) for name in sorted(CLASSES)}
    prices = {"min_price": min_, "max_price": max_, "avg_price": average, "sum_price": sum_}
    bids = s.bid.with_columns(day=DAY).key_by("auction", "day")
    return bids.aggregate(total_bids=count(), **ranks, **{name: made("price") for name, made in prices.items()})


@query
def q18(s: Streams) -> DataStream:
    """The last bid of each bidder."""
    return s.bid.key_by("bidder", "auction").top_n(1, by=["date_time", "extra"], descending=[True, False])


@query
def q19(s: Streams) -> Result:
    """Top 10 bids of each auction."""
    top = s.bid.key_by("auction").top_n(10, by="price", rank="rank_number")
    return Result(top, lambda frame: frame.sort("auction", "price", "bidder", descending=[False, True, False]))


@query
def q20(s: Streams) -> DataStream:
    """Bids with their auction."""
    names = [name for name in AUCTION if name not in ("date_time", "extra")]
    auctions = s.auction.filter(col("category") == 10)
    auctions = auctions.select(*names, auction_date_time=col("date_time"), auction_extra=col("extra"))
    own = ["auction", "bidder", "price", "channel", "url"]
    bids = s.bid.select(*own, bid_date_time=col("date_time"), bid_extra=col("extra"))
    return bids.join(auctions, on={"auction": "id"})


@query
def q21(s: Streams) -> DataStream:
    """Add a channel id."""
    known = {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}
    by_name = col("channel").str.to_lowercase().replace_strict(known, default=None, return_dtype=pl.String)
    by_url = col("url").str.extract("(?:&|^)channel_id=([^&]*)", 1)
    found = s.bid.with_columns(channel_id=pl.coalesce(by_name, by_url)).filter(col("channel_id").is_not_null())
    return found.select("auction", "bidder", "price", "channel", "channel_id")


@query
def q22(s: Streams) -> DataStream:
    """The directories of a url."""
    pieces = col("url").str.split("/")
    directories = {f"dir{number}": pieces.list.get(number + 2, null_on_oob=True) for number in (1, 2, 3)}
    return s.bid.select("auction", "bidder", "price", "channel", **directories)


@query
def q101(s: Streams) -> DataStream:
    """Auctions and their highest bid."""
    auctions = s.auction.select(auction_id=col("id"), auction_item_name=col("item_name"))
    highest = s.bid.key_by("auction").aggregate(current_highest_bid=max_("price"))
    return auctions.join(highest, on={"auction_id": "auction"}, how="left")


def auction_names(s: Streams) -> DataStream:
    """Id and name of each auction."""
    return s.auction.select(auction_id=col("id"), auction_item_name=col("item_name"))


@query
def q102(s: Streams) -> DataStream:
    """Auctions with at least the mean number of bids."""
    totals = s.bid.aggregate(bids=count(), auctions=count_distinct("auction"))
    counted = auction_names(s).join(bid_counts(s), on={"auction_id": "auction"})
    many = col("bid_count") >= col("bids") // col("auctions")
    return counted.join(totals, where=many).select("auction_id", "auction_item_name", "bid_count")


@query
def q103(s: Streams) -> DataStream:
    """Auctions with at least 20 bids."""
    many = bid_counts(s).filter(col("bid_count") >= 20)
    return auction_names(s).join(many, on={"auction_id": "auction"}, how="semi")


@query
def q104(s: Streams) -> DataStream:
    """Auctions that do not have between 1 and 19 bids."""
    few = bid_counts(s).filter(col("bid_count").is_between(1, 19))
    return auction_names(s).join(few, on={"auction_id": "auction"}, how="anti")


@query
def q105(s: Streams) -> DataStream:
    """The 1,000 auctions with the most bids."""
    counted = auction_names(s).join(bid_counts(s), on={"auction_id": "auction"})
    return counted.group_by().top_n(1_000, by="bid_count")


@query
def q106(s: Streams) -> DataStream:
    """The lowest of the auctions' highest bids."""
    return highest_valid_bids(s).group_by().aggregate(min_final=min_("final"))
