"""Records without a value delete their key in a table, and deletes are written as such records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from thalweg import App
from thalweg.analytics import count, sum_
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.testing import TestDriver, current_rows

SCHEMA = {"item": str, "price": int}


def put(log: EmbeddedLog, records: Sequence[tuple[str | None, Any]], topic: str = "prices") -> None:
    """Records of (key, value); None is none."""
    values = [None if value is None else json.dumps(value) for _, value in records]
    log.append_records(topic, values, keys=[key for key, _ in records], timestamps=range(len(records)))


def price(item: str, value: int) -> tuple[str, dict[str, Any]]:
    return item, {"item": item, "price": value}


RECORDS = [price("tea", 5), price("milk", 2), ("tea", None), price("rum", 9), ("rum", None), price("rum", 8)]


def errors(log: EmbeddedLog, topic: str) -> list[str]:
    """Why there are dead letters."""
    if topic not in log.topics()["topic"]:
        return []
    headers = [{one["key"]: one["value"] for one in row} for row in log.records(topic)["headers"]]
    return [one["error_class"].decode() for one in headers]


def changes(path: Any, **settings: Any) -> list[tuple[Any, ...]]:
    app = App("prices", broker=f"sqlite:///{path}", **settings)
    app.table("prices", key="item", schema=SCHEMA).changes.to("out", changes=True)
    app.run(until_caught_up=True)
    return EmbeddedLog(path).read("out").select("item", "price", "__op").rows()


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_a_record_without_a_value_deletes_its_key_in_its_place(tmp_path, rows: int):
    log = EmbeddedLog(tmp_path / "data.db")
    put(log, RECORDS)
    found = changes(tmp_path / "data.db", max_batch_rows=rows)
    assert [(item, op) for item, _, op in found] == [
        *[("tea", "insert"), ("milk", "insert"), ("tea", "delete")],
        *[("rum", "insert"), ("rum", "delete"), ("rum", "insert")],
    ]
    put(log, [("milk", None), ("milk", None)])  # a later run knows what there is; what is gone is not deleted again
    assert changes(tmp_path / "data.db")[6:] == [("milk", None, "delete")]


def test_aggregates_and_upserts_follow_the_deletes(tmp_path):
    path = tmp_path / "data.db"
    log = EmbeddedLog(path)
    log.ensure_topic("copy", 3)
    put(log, RECORDS)
    app = App("copy", broker=f"sqlite:///{path}")
    rows = app.table("prices", key="item", schema=SCHEMA).changes
    rows.to("copy", changes="upsert")
    rows.group_by().aggregate(n=count(), total=sum_("price")).to("total", changes=True)
    app.run(until_caught_up=True)
    assert log.read("total").select("n", "total").rows()[-1] == (2, 10)
    copied = log.records("copy")
    last = dict(copied.select("key", "value").iter_rows())
    assert {key: value and json.loads(value) for key, value in last.items()} == {
        b"tea": None,
        b"milk": {"item": "milk", "price": 2},
        b"rum": {"item": "rum", "price": 8},
    }
    again = App("again", broker=f"sqlite:///{path}")
    again.table("copy", key="item", schema=SCHEMA).changes.to("again", changes=True)
    again.run(until_caught_up=True)
    final = log.read("again").unique("item", keep="last").filter(pl.col("__op") != "delete")
    assert sorted(final.select("item", "price").rows()) == [("milk", 2), ("rum", 8)]


def test_a_delete_has_the_time_of_its_partition_where_time_is_a_column():
    """It moves no watermark, needs no required field, and is nothing where nothing was before it."""
    app = App("sales")
    table = app.table("prices", key="item", schema={**SCHEMA, "t": int}, timestamp="t")
    sales = app.stream("sales", schema={"item": str, "t": int}, timestamp="t")
    driver = TestDriver(sales.join(table, how="left"), partitions=2)
    gone = pl.DataFrame({"item": ["tea"], "price": [None], "t": [None], "__op": ["delete"]})
    driver.send(gone, source="prices")
    driver.send([{"item": "tea", "price": 5, "t": 100}], source="prices")
    driver.send([{"item": "rum", "price": 9, "t": 200}], source="prices", partition=1)
    driver.send(gone, source="prices")
    driver.send([{"item": "tea", "price": 6, "t": 300}], source="prices")
    driver.send([{"item": "tea", "t": t} for t in (50, 99, 100, 150, 310)], source="sales")
    driver.end()
    found = dict(driver.output().select("t", "price").rows())
    assert found == {50: None, 99: None, 100: None, 150: None, 310: 6}
    account = driver.accounts()["source-prices"]
    assert (account.received, account.passed, account.filtered, account.dead) == (5, 4, 1, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ('{"shop": 1, "item": "tea"}', True),
        ('{"schema": {}, "payload": {"shop": 1, "item": "tea"}}', True),
        ('{"shop": "one", "item": "tea"}', False),
        ('{"item": "tea"}', False),
        ("tea", False),
        (None, False),
        (b"\xff", False),
    ],
)
def test_keys_of_several_columns_are_json_objects(tmp_path, key: Any, value: bool):
    log = EmbeddedLog(tmp_path / "data.db")
    put(log, [("x", {"shop": 1, "item": "tea", "price": 3}), (key, None)])
    app = App("shops", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.table("prices", key=["shop", "item"], schema={"shop": int, **SCHEMA}).changes.to("out", changes=True)
    app.run(until_caught_up=True)
    assert log.read("out")["__op"].to_list() == (["insert", "delete"] if value else ["insert"])
    assert errors(log, "prices.dlq") == ([] if value else ["NullPayload"])


def test_without_a_schema_the_key_has_the_type_of_the_values(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    put(log, [("1", {"id": 1, "v": 2}), ("1", None), ("one", None)])
    app = App("ids", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.table("prices", key="id").changes.to("out", changes=True)
    app.run(until_caught_up=True)
    assert log.read("out").select("id", "__op").rows() == [(1, "insert"), (1, "delete")]
    assert errors(log, "prices.dlq") == ["NullPayload"]


def test_after_change_records_they_are_passed_over(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    row = {"id": 1, "status": "new"}
    put(
        log,
        [
            ("1", {"op": "c", "before": None, "after": row}),
            ("1", {"op": "d", "before": row, "after": None}),
            ("1", None),
        ],
    )
    app = App("cdc", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.stream("prices", tombstones="skip").changes("id").to("out", changes=True)
    app.run(until_caught_up=True)
    assert log.read("out").select("id", "__op").rows() == [(1, "insert"), (1, "delete")]
    account = {operator.id: operator.account for operator in app.status().operators}["source-prices"]
    assert (account.received, account.passed, account.filtered, account.dead) == (3, 2, 1, 0)
    assert errors(log, "prices.dlq") == []


@pytest.mark.parametrize("tombstones", ["dead-letter", "skip"])
def test_a_table_may_take_them_for_something_else(tmp_path, tombstones: str):
    log = EmbeddedLog(tmp_path / "data.db")
    put(log, RECORDS[:3])
    app = App("kept", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.table("prices", key="item", schema=SCHEMA, tombstones=tombstones).changes.to("out", changes=True)
    app.run(until_caught_up=True)
    assert log.read("out")["__op"].to_list() == ["insert", "insert"]
    assert errors(log, "prices.dlq") == (["NullPayload"] if tombstones == "dead-letter" else [])


def test_the_driver_takes_deletes_as_rows():
    table = App("prices").table("prices", key="item", schema={"item": str, "price": int, "t": int}, timestamp="t")
    driver = TestDriver(table.changes)
    driver.send([{"item": "tea", "price": 5, "t": 1}])
    driver.send(pl.DataFrame({"item": ["tea"], "__op": ["delete"]}))
    assert driver.output().select("item", "__op").rows() == [("tea", "insert"), ("tea", "delete")]


@pytest.mark.parametrize(("workers", "size"), [(1, 7), (2, 1), (3, None)])
def test_deletes_move_between_workers_in_their_order(workers: int, size: int | None):
    app = App("moved")
    table = app.table("prices", key="item", schema={**SCHEMA, "t": int}, timestamp="t")
    kinds = table.changes.with_columns(kind=pl.col("price") % 2)
    total = kinds.group_by("kind").aggregate(n=count(), total=sum_("price"))
    driver = TestDriver(total, batch_size=size, exchange=4, workers=workers)
    rows = [{"item": f"i{n * 7 % 5}", "price": None if n % 3 == 2 else n, "t": n} for n in range(60)]
    frame = pl.DataFrame(rows).with_columns(
        pl.when(pl.col("price").is_null()).then(pl.lit("delete")).otherwise(pl.lit("insert")).alias("__op")
    )
    driver.send(frame[:30])
    saved = driver.snapshot()
    driver.restore(saved, workers=4 - workers)
    driver.send(frame[30:])
    driver.end()
    held = {row["item"]: row["price"] for row in rows}
    expected = [
        (kind, len(prices), sum(prices))
        for kind in (0, 1)
        if (prices := [price for price in held.values() if price is not None and price % 2 == kind])
    ]
    assert sorted(current_rows(driver.output(), ["kind"]).select("kind", "n", "total").rows()) == expected


def test_what_can_not_be_told_apart_is_refused():
    app = App("refused")
    events = app.stream("events", timestamp="t")
    with pytest.raises(PlanError, match="needs one key column; the stream is keyed by nothing"):
        events.aggregate(n=count()).to("out", changes="upsert")
    with pytest.raises(PlanError, match="keyed by a, b"):
        events.key_by("a", "b").aggregate(n=count()).to("out", changes="upsert")
    with pytest.raises(PlanError, match="keyed by a"):
        events.key_by("a").aggregate(n=count()).to("out", key="n", changes="upsert")
    with pytest.raises(ConfigurationError, match="changes is 'yes'"):
        events.to("out", changes="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="tombstones is 'delete'"):
        app.stream("others", tombstones="delete")
    with pytest.raises(PlanError, match="changes of the key 'a'"):
        events.key_by("a").aggregate(n=count()).select("n")


def test_rows_without_a_key_are_dead_letters(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("events", [{"a": "x", "t": 1}, {"a": None, "t": 2}])
    app = App("keys", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.stream("events", schema={"a": str, "t": int}, timestamp="t").to("out", key="a", changes="upsert")
    app.run(until_caught_up=True)
    assert log.records("out")["key"].to_list() == [b"x"]
    assert errors(log, "events.dlq") == ["MissingKey"]
