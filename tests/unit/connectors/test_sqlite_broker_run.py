"""Jobs on the embedded log through `App.run`: the whole way, stopped and started again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from thalweg import App
from thalweg.analytics import count, sum_
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import ConnectorError
from thalweg.streams import TumblingWindow


def windows(path: Path, **settings: object) -> App:
    app = App("job", broker=f"sqlite:///{path}", **settings)  # type: ignore[arg-type]
    events = app.stream("in", timestamp="ts", watermark=0)
    events.key_by("k").window(TumblingWindow("1s")).aggregate(n=count(), total=sum_("v")).to("out")
    return app


def send(log: EmbeddedLog, first: int, last: int) -> None:
    log.append("in", [{"ts": i * 10, "k": f"k{i % 10}", "v": i} for i in range(first, last)], key="k")


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_stopped_and_started_again_gives_what_one_run_gives(tmp_path: Path, guarantee: str) -> None:
    with EmbeddedLog(tmp_path / "data.db") as log:
        log.ensure_topic("in", 2)
        for first in range(0, 1000, 130):
            send(log, first, min(1000, first + 130))
            windows(tmp_path / "data.db", guarantee=guarantee).run(until_caught_up=True)
        parts = log.read("out").sort("k", "window_start")
    with EmbeddedLog(tmp_path / "once.db") as log:
        log.ensure_topic("in", 2)
        send(log, 0, 1000)
        windows(tmp_path / "once.db", guarantee=guarantee).run(until_caught_up=True)
        whole = log.read("out").sort("k", "window_start")
    assert parts.equals(whole)
    closed = pl.DataFrame({"i": range(1000)}).with_columns(
        k="k" + (pl.col("i") % 10).cast(pl.String), w=pl.col("i") // 100
    )
    expected = closed.filter(pl.col("w") < 9).group_by("k", "w").agg(pl.len(), pl.sum("i")).sort("k", "w")
    assert whole.select("n", "total").rows() == expected.select("len", "i").rows()


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "data.db") as log:
        log.ensure_topic("inn")
    with pytest.raises(ConnectorError, match=r"no topic 'in' in .*: did you mean 'inn'"):
        windows(tmp_path / "data.db").run(until_caught_up=True)


def test_broker_settings_come_through_the_app(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "data.db") as log:
        send(log, 0, 500)
    windows(tmp_path / "data.db", retention="1h", retention_bytes=12_345, partitions=3).run(until_caught_up=True)
    with EmbeddedLog(tmp_path / "data.db") as log:
        out = log.topics().filter(pl.col("topic") == "out").row(0, named=True)
    assert (out["partitions"], out["retention_ms"], out["retention_bytes"]) == (3, 3_600_000, 12_345)
