"""The Nexmark queries that are compared with Flink SQL: q0 to q8 but q6, which Flink SQL can't express.

Two differ from `queries`, so that results can be compared and timed: q2 selects every 123rd auction, as Nexmark does
(the published five ids are among the first), and q5 and q8 give the end of their window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from benchmarks.nexmark import queries
from benchmarks.nexmark.queries import Streams
from benchmarks.nexmark.reference import REFERENCE, VALID
from thalweg import DataStream
from thalweg.analytics import count, max_
from thalweg.streams import Interval, SlidingWindow, TumblingWindow

__all__ = ["WORKLOAD", "Comparison"]
col = pl.col
_END = "UNIX_TIMESTAMP(DATE_FORMAT({}, 'yyyy-MM-dd HH:mm:ss')) * 1000"


@dataclass(frozen=True)
class Comparison:
    """One query on both engines.

    Attributes:
        build: on Thalweg.
        flink: columns of the result, the query, and the key where results are updated.
        duckdb: what the results must be.
        window_end: the column of the window's end, or of a time in a window of 10 s: only windows that the input closes
            are compared.
    """

    build: Callable[[Streams], DataStream]
    flink: dict[str, str]
    duckdb: str
    window_end: str | None = None

    @property
    def key(self) -> str | None:
        """The key column of results that are updated."""
        return self.flink.get("key")


def _every_123rd(s: Streams) -> DataStream:
    return s.bid.filter(col("auction") % 123 == 0).select("auction", "price")


def _hot_items(s: Streams) -> DataStream:
    counts = s.bid.key_by("auction").window(SlidingWindow("10s", "2s")).aggregate(num=count())
    counts = counts.select("auction", "num", ends=col("window_end"))
    most = counts.select("num", "ends").key_by("ends").window(TumblingWindow("2s")).aggregate(most=max_("num"))
    best = counts.join(most.select("ends", "most"), on="ends", within=Interval(0, 0)).filter(col("num") == col("most"))
    return best.select("auction", "num", "ends")


def _new_sellers(s: Streams) -> DataStream:
    window = TumblingWindow("10s")
    people = s.person.key_by("id", "name").window(window).aggregate(n=count())
    sellers = s.auction.key_by("seller").window(window).aggregate(m=count())
    both = people.join(sellers, on={"id": "seller", "window_end": "window_end"}, within=Interval(0, 0))
    return both.select("id", "name", ends=col("window_end"))


_BID_WINDOWS = "TABLE(HOP(TABLE bid, DESCRIPTOR(et), INTERVAL '2' SECOND, INTERVAL '10' SECOND))"
_COUNTS = (
    f"(SELECT auction, COUNT(*) AS num, window_start, window_end FROM {_BID_WINDOWS}"
    " GROUP BY auction, window_start, window_end)"
)

WORKLOAD = {
    "q0": Comparison(
        lambda s: queries.q0(s).stream,
        {
            "columns": "auction BIGINT, bidder BIGINT, price BIGINT, date_time BIGINT",
            "sql": "SELECT auction, bidder, price, date_time FROM bid",
        },
        REFERENCE["q0"],
    ),
    "q1": Comparison(
        lambda s: queries.q1(s).stream,
        {
            "columns": "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), date_time BIGINT",
            "sql": "SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)), date_time FROM bid",
        },
        REFERENCE["q1"],
    ),
    "q2": Comparison(
        _every_123rd,
        {
            "columns": "auction BIGINT, price BIGINT",
            "sql": "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
        },
        "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    ),
    "q3": Comparison(
        lambda s: queries.q3(s).stream,
        {
            "columns": "name STRING, city STRING, state STRING, id BIGINT",
            "sql": """SELECT p.name, p.city, p.state, a.id FROM auction a INNER JOIN person p ON a.seller = p.id
                WHERE a.category = 10 AND (p.state = 'or' OR p.state = 'id' OR p.state = 'ca')""",
        },
        REFERENCE["q3"],
    ),
    "q4": Comparison(
        lambda s: queries.q4(s).stream,
        {
            "columns": "category BIGINT, `avg` DOUBLE",
            "key": "category",
            "sql": """SELECT category, AVG(CAST(final AS DOUBLE)) FROM (
                SELECT MAX(b.price) AS final, a.category FROM auction a, bid b
                WHERE a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category
                ) GROUP BY category""",
        },
        f"""SELECT category, avg(final) AS avg FROM (
            SELECT max(price) AS final, category FROM ({VALID}) GROUP BY id, category) GROUP BY category""",
    ),
    "q5": Comparison(
        _hot_items,
        {
            "columns": "auction BIGINT, num BIGINT, ends BIGINT",
            "sql": f"""SELECT a.auction, a.num, {_END.format("a.window_end")} FROM {_COUNTS} a JOIN (
                SELECT MAX(num) AS most, window_start, window_end FROM {_COUNTS} GROUP BY window_start, window_end) m
                ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num = m.most""",
        },
        """WITH hops AS (
            SELECT auction, date_time // 2000 * 2000 + unnest(range(2000, 10001, 2000)) AS ends FROM bid
        ), counts AS (SELECT ends, auction, count(*) AS num FROM hops GROUP BY ends, auction)
        SELECT auction, num, ends FROM counts QUALIFY num = max(num) OVER (PARTITION BY ends)""",
        "ends",
    ),
    "q7": Comparison(
        lambda s: queries.q7(s).stream,
        {
            "columns": "auction BIGINT, price BIGINT, bidder BIGINT, date_time BIGINT",
            "sql": """SELECT b.auction, b.price, b.bidder, b.date_time FROM bid b JOIN (
                SELECT MAX(price) AS most, window_time AS wt FROM TABLE(
                    TUMBLE(TABLE bid, DESCRIPTOR(et), INTERVAL '10' SECOND))
                GROUP BY window_start, window_end, window_time) m
                ON b.price = m.most
                AND b.et BETWEEN m.wt - INTERVAL '9.999' SECOND AND m.wt + INTERVAL '0.001' SECOND""",
        },
        REFERENCE["q7"],
        "date_time",
    ),
    "q8": Comparison(
        _new_sellers,
        {
            "columns": "id BIGINT, name STRING, ends BIGINT",
            "sql": f"""SELECT p.id, p.name, {_END.format("p.window_end")} FROM (
                SELECT id, name, window_start, window_end FROM TABLE(
                    TUMBLE(TABLE person, DESCRIPTOR(et), INTERVAL '10' SECOND))
                GROUP BY id, name, window_start, window_end) p
                JOIN (SELECT seller, window_start, window_end FROM TABLE(
                    TUMBLE(TABLE auction, DESCRIPTOR(et), INTERVAL '10' SECOND))
                GROUP BY seller, window_start, window_end) a
                ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end""",
        },
        """SELECT DISTINCT p.id, p.name, p.ends
        FROM (SELECT id, name, date_time // 10000 * 10000 + 10000 AS ends FROM person) p
        JOIN (SELECT seller, date_time // 10000 * 10000 + 10000 AS ends FROM auction) a
        ON p.id = a.seller AND p.ends = a.ends""",
        "ends",
    ),
}
