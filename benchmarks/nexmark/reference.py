"""The Nexmark queries as batch SQL for DuckDB, over tables `person`, `auction` and `bid` with times in ms.

Written from the descriptions in `tests/conformance/data/nexmark`, apart from `queries.py`: what the one computes bit by
bit, with retractions, the other computes at once.
"""

from __future__ import annotations

import polars as pl

VALID = """
    SELECT a.*, b.auction, b.bidder, b.price, b.date_time AS bid_date_time
    FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires"""
HOUR = "extract(hour FROM make_timestamp(date_time * 1000))"
DAY = "strftime(make_timestamp(date_time * 1000), '%Y-%m-%d')"
EUROS = "price::DECIMAL(18, 0) * 0.908::DECIMAL(4, 3)"

CLASSES = {"rank1": "price < 10000", "rank2": "price >= 10000 AND price < 1000000", "rank3": "price >= 1000000"}


def _statistics() -> str:
    parts = ["count(*) AS total_bids"]
    parts += [f"count(*) FILTER (WHERE {test}) AS {name}_bids" for name, test in CLASSES.items()]
    for column in ("bidder", "auction"):
        parts.append(f"count(DISTINCT {column}) AS total_{column}s")
        parts += [f"count(DISTINCT {column}) FILTER (WHERE {t}) AS {name}_{column}s" for name, t in CLASSES.items()]
    return ", ".join(parts)


REFERENCE = {
    "q0": "SELECT auction, bidder, price, date_time FROM bid",
    "q1": f"SELECT auction, bidder, {EUROS} AS price, date_time FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE auction IN (1007, 1020, 2001, 2019, 2087)",
    "q3": """SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
        WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca')""",
    "q4": f"""SELECT category, avg(final) AS avg FROM (SELECT max(price) AS final, category FROM ({VALID})
        GROUP BY id, category) GROUP BY category""",
    "q5": """WITH hops AS (
            SELECT auction, unnest(range(date_time // 2000 * 2000 - 8000, date_time + 1, 2000)) AS start FROM bid
        ), counts AS (SELECT start, auction, count(*) AS num FROM hops GROUP BY start, auction)
        SELECT auction, num FROM counts c WHERE num = (SELECT max(num) FROM counts d WHERE d.start = c.start)""",
    "q6_group_top1": f"""WITH kept AS (
            SELECT *, row_number() OVER (PARTITION BY id ORDER BY price, bid_date_time) AS n FROM ({VALID}))
        SELECT seller, avg(price) OVER (PARTITION BY seller ORDER BY bid_date_time, id
            ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS avg FROM kept WHERE n = 1""",
    "q7": """WITH highest AS (SELECT max(price) AS price, date_time // 10000 * 10000 AS start FROM bid GROUP BY start)
        SELECT b.auction, b.price, b.bidder, b.date_time FROM bid b JOIN highest h
        ON b.price = h.price AND b.date_time BETWEEN h.start AND h.start + 10000""",
    "q8": """SELECT p.id, p.name, p.start AS starttime
        FROM (SELECT DISTINCT id, name, date_time // 10000 * 10000 AS start FROM person) p
        JOIN (SELECT DISTINCT seller, date_time // 10000 * 10000 AS start FROM auction) a
        ON p.id = a.seller AND p.start = a.start""",
    "q9": f"""SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, auction,
        bidder, price, bid_date_time FROM ({VALID})
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY price DESC, bid_date_time) = 1""",
    "q10": f"""SELECT auction, bidder, price, date_time, {DAY} AS date,
        strftime(make_timestamp(date_time * 1000), '%I:%M') AS time FROM bid""",
    "q11": """WITH gaps AS (
            SELECT *, date_time - lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) AS gap FROM bid
        ), sessions AS (
            SELECT *, count(*) FILTER (WHERE gap >= 10000) OVER (PARTITION BY bidder ORDER BY date_time) AS n FROM gaps)
        SELECT bidder, count(*) AS bid_count, min(date_time) AS starttime, max(date_time) + 10000 AS endtime
        FROM sessions GROUP BY bidder, n""",
    "q12": "SELECT bidder, count(*) AS bid_count FROM bid GROUP BY bidder",
    "q13": "SELECT auction, bidder, price, date_time, 'value ' || (auction % 10000) AS value FROM bid",
    "q14": f"""SELECT auction, bidder, {EUROS} AS price,
        CASE WHEN {HOUR} BETWEEN 8 AND 18 THEN 'dayTime' WHEN {HOUR} <= 6 OR {HOUR} >= 20 THEN 'nightTime'
            ELSE 'otherTime' END AS bidtimetype,
        date_time, length(extra) - length(replace(extra, 'c', '')) AS c_counts
        FROM bid WHERE {EUROS} > 1000000 AND {EUROS} < 50000000""",
    "q15": f"SELECT {DAY} AS day, {_statistics()} FROM bid GROUP BY day",
    "q16": f"""SELECT channel, {DAY} AS day, max(strftime(make_timestamp(date_time * 1000), '%I:%m')) AS minute,
        {_statistics()} FROM bid GROUP BY channel, day""",
    "q17": f"""SELECT auction, {DAY} AS day, count(*) AS total_bids,
        {", ".join(f"count(*) FILTER (WHERE {test}) AS {name}_bids" for name, test in CLASSES.items())},
        min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price)::BIGINT AS sum_price
        FROM bid GROUP BY auction, day""",
    "q18": """SELECT * FROM bid
        QUALIFY row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, extra) = 1""",
    "q19": """SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time) AS rank_number FROM bid
        QUALIFY rank_number <= 10""",
    "q20": """SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_date_time, b.extra AS bid_extra,
        a.item_name, a.description, a.initial_bid, a.reserve, a.date_time AS auction_date_time, a.expires, a.seller,
        a.category, a.extra AS auction_extra FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10""",
    "q21": """SELECT auction, bidder, price, channel, coalesce(
            CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2'
            WHEN 'baidu' THEN '3' END,
            nullif(regexp_extract(url, '(&|^)channel_id=([^&]*)', 2), '')) AS channel_id
        FROM bid WHERE channel_id IS NOT NULL""",
    "q22": """SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
        split_part(url, '/', 6) AS dir3 FROM bid""",
    "q101": """SELECT a.id AS auction_id, a.item_name AS auction_item_name, b.highest AS current_highest_bid
        FROM auction a LEFT JOIN (SELECT auction, max(price) AS highest FROM bid GROUP BY auction) b
        ON a.id = b.auction""",
    "q102": """SELECT a.id AS auction_id, a.item_name AS auction_item_name, count(*) AS bid_count
        FROM auction a JOIN bid b ON a.id = b.auction GROUP BY a.id, a.item_name
        HAVING count(*) >= (SELECT count(*) // count(DISTINCT auction) FROM bid)""",
    "q103": """SELECT id AS auction_id, item_name AS auction_item_name FROM auction
        WHERE id IN (SELECT auction FROM bid GROUP BY auction HAVING count(*) >= 20)""",
    "q104": """SELECT id AS auction_id, item_name AS auction_item_name FROM auction
        WHERE id NOT IN (SELECT auction FROM bid GROUP BY auction HAVING count(*) BETWEEN 1 AND 19)""",
    "q105": """SELECT a.id AS auction_id, a.item_name AS auction_item_name, count(*) AS bid_count
        FROM auction a JOIN bid b ON a.id = b.auction GROUP BY a.id, a.item_name ORDER BY bid_count DESC LIMIT 1000""",
    "q106": f"SELECT min(final) AS min_final FROM (SELECT max(price) AS final FROM ({VALID}) GROUP BY id)",
}


def answer(query: str, person: pl.DataFrame, auction: pl.DataFrame, bid: pl.DataFrame) -> pl.DataFrame:
    """What DuckDB makes of a query over whole tables."""
    return run_sql(REFERENCE[query], {"person": person, "auction": auction, "bid": bid})


def run_sql(sql: str, tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """What DuckDB makes of a statement."""
    import duckdb

    with duckdb.connect() as connection:
        for name, frame in tables.items():
            connection.register(name, frame.to_arrow())
        return pl.DataFrame(connection.query(sql).to_arrow_table())
