"""The plan: what it refuses before anything runs, its ids, what it reads, how it explains itself."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import App, CheckpointConfig, GlobalWindow, StateBackend, TumblingWindow
from thalweg.streams.stream import DataStream

SCHEMA = pl.Schema({"ts": pl.Int64, "user": pl.String, "value": pl.Float64, "extra": pl.String})


def typed(app: App | None = None) -> DataStream:
    return (app or App("t")).stream("in", schema=SCHEMA, timestamp="ts")


@pytest.mark.parametrize(
    "make",
    [
        lambda s: s.filter(pl.col("valeu") > 1),
        lambda s: s.select("valeu"),
        lambda s: s.with_columns(x=pl.col("valeu") * 2),
        lambda s: s.key_by("valeu"),
        lambda s: s.to("out", key="valeu"),
        lambda s: s.select("ts", "value").filter(pl.col("valeu") > 1),
    ],
)
def test_an_unknown_column_is_refused_with_close_names(make: Any) -> None:
    with pytest.raises(PlanError, match="'valeu'; did you mean 'value'"):
        make(typed())


def test_a_timestamp_that_is_not_there_is_refused() -> None:
    with pytest.raises(PlanError, match="'tss'; did you mean 'ts'"):
        App("t").stream("in", schema=SCHEMA, timestamp="tss")


def test_types_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(PlanError, match="does not fit"):
        typed().with_columns(x=pl.col("user").dt.year())


def test_a_plan_without_an_end_is_refused() -> None:
    app = App("t")
    typed(app).filter(pl.col("value") > 1)
    with pytest.raises(PlanError, match="nothing to do"):
        app.plan()


def test_steps_that_lead_nowhere_are_left_out() -> None:
    app = App("t")
    stream = typed(app)
    stream.filter(pl.col("value") > 1)
    stream.select("user").to("out")
    assert [node.kind for node in app.plan().nodes] == ["source", "select", "sink"]


def test_a_changelog_does_not_go_where_appends_are_expected() -> None:
    totals = typed().key_by("user").window(GlobalWindow()).aggregate(n=pl.col("value").count())
    with pytest.raises(PlanError, match="changes=True"):
        totals.to("out")
    with pytest.raises(PlanError, match="flat_map on a changelog"):
        totals.flat_map("n")
    with pytest.raises(PlanError, match="union"):
        totals.union(totals)
    totals.to("out", changes=True)


def test_ids_are_stable_and_may_be_given() -> None:
    app = App("t")
    stream = typed(app).filter(pl.col("value") > 1).filter(pl.col("value") > 2).uid("second")
    stream.to("a")
    stream.to("b", uid="b-sink")
    assert list(app.plan().ids.values()) == ["source-in", "filter-1", "second", "sink-1", "b-sink"]


def test_an_id_given_twice_is_refused() -> None:
    app = App("t")
    stream = typed(app)
    stream.to("a", uid="x")
    stream.to("b", uid="x")
    with pytest.raises(PlanError, match="'x' is used twice"):
        app.plan()


def test_uid_after_the_step_was_read_is_refused() -> None:
    stream = typed().filter(pl.col("value") > 1)
    stream.to("a")
    with pytest.raises(ConfigurationError, match="right after the step"):
        stream.uid("late")


def test_only_the_columns_that_are_read_are_decoded() -> None:
    app = App("t")
    windows = typed(app).filter(pl.col("value") > 1).key_by("user").window(TumblingWindow(10))
    windows.aggregate(n=pl.col("value").mean()).to("out")
    (columns,) = app.plan().required.values()
    assert columns == {"ts", "user", "value"}


def test_late_rows_that_are_read_keep_all_their_columns() -> None:
    app = App("t")
    counts = typed(app).key_by("user").window(TumblingWindow(10)).aggregate(n=pl.col("value").count())
    counts.to("out")
    counts.late.select("extra").to("late")
    (columns,) = app.plan().required.values()
    assert columns == {"ts", "user", "value", "extra"}
    counts.late.to("all-of-them")
    assert list(app.plan().required.values()) == [None]


def test_select_bounds_what_a_sink_reads() -> None:
    app = App("t")
    typed(app).with_columns(double=pl.col("value") * 2).select("double").to("out")
    assert list(app.plan().required.values()) == [frozenset({"ts", "value"})]


def test_keys_follow_the_steps() -> None:
    keyed = typed().key_by("user")
    assert keyed.key_columns == ("user",)
    assert keyed.filter(pl.col("value") > 1).key_columns == ("user",)
    assert keyed.select("user", "value").key_columns == ("user",)
    assert keyed.select("value").key_columns == ()
    assert keyed.with_columns(user=pl.lit("x")).key_columns == ()
    assert typed().key_by(pl.col("user").str.len_bytes()).key_columns == ("key",)
    assert typed().key_by(pl.col("user").alias("who")).schema["who"] == pl.String  # type: ignore[index]
    assert typed().key_by(pl.col("user")).key_columns == ("user",)
    assert typed().key_by("user", half=pl.col("value") / 2).key_columns == ("user", "half")


def test_explain_draws_the_plan() -> None:
    app = App("t")
    stream = typed(app).filter(pl.col("value") > 1).key_by("user")
    counts = stream.window(TumblingWindow(10)).aggregate(n=pl.col("value").count())
    counts.to("out")
    counts.late.to("late")
    stream.filter(lambda e: opaque(e)).subscribe(print)
    text = app.explain()
    for part in (
        "source 'in'",
        "reads all columns",
        "filter-1..key_by-1",
        "[port late]",
        "per row",
        "to 'out'",
        "subscribe print (rows)",
        "one query per batch",
    ):
        assert part in text, text


def opaque(event: Any) -> bool:
    return bool(event)


def test_the_graph_is_plain_data() -> None:
    app = App("t")
    typed(app).filter(pl.col("value") > 1).to("out")
    graph = json.loads(json.dumps(app.to_json()))
    assert [n["id"] for n in graph["nodes"]] == ["source-in", "filter-1", "sink-1"]
    assert {(e["from"], e["to"]) for e in graph["edges"]} == {("source-in", "filter-1"), ("filter-1", "sink-1")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: App("no spaces"), "app name"),
        (lambda: App("t", guarantee="at-most-once"), "guarantee"),
        (lambda: App("t", late_events="drop"), "late_events"),
        (lambda: App("t", commit_interval=0), "commit_interval"),
        (lambda: App("t", max_batch_rows=0), "max_batch_rows"),
        (lambda: App("t").stream(""), "name of a topic"),
        (lambda: App("t").stream("x", record_key="user", partitioner="md5"), "use one of"),
        (lambda: App("t").stream("x", start="middle"), "start"),
        (lambda: App("t").stream("x", timestamp_unit="minutes"), "timestamp_unit"),
        (lambda: CheckpointConfig(max_concurrent_checkpoints=0), "at least 1"),
        (lambda: CheckpointConfig(backend=StateBackend.redis("localhost")), "redis://host:port"),
        (lambda: CheckpointConfig(interval=0), "checkpoint interval"),
        (lambda: typed().split({}), "at least one branch"),
        (lambda: typed().split({"late": pl.lit(True)}), "port of its own"),
        (lambda: typed().key_by(), "at least one column"),
        (lambda: typed().select(), "at least one column"),
        (lambda: typed().subscribe("print"), "takes a function"),
        (lambda: typed().subscribe(asynchronous), "never be awaited"),
        (lambda: typed().subscribe(print, on_error="ignore"), "on_error"),
        (lambda: typed().detect(object()), "to_node"),
        (lambda: typed().window(TumblingWindow(10)).aggregate(), "at least one aggregate"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


async def asynchronous(row: Any) -> None: ...


def test_one_topic_is_one_source() -> None:
    app = App("t")
    assert typed(app).node is typed(app).node
    with pytest.raises(ConfigurationError, match="other settings"):
        app.stream("in", timestamp="ts")


def test_streams_of_two_apps_do_not_mix() -> None:
    with pytest.raises(PlanError, match="different apps"):
        typed(App("a")).union(typed(App("b")))


def test_a_stream_without_an_app_uses_the_default_one() -> None:
    import thalweg

    stream = thalweg.DataStream("in-the-default-app")
    from thalweg.streams import default_app

    assert stream.app is default_app()
