"""The demo's job over minutes of its traffic at once: all attacks are found and nothing else, also across a stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.demo import job
from thalweg.demo.attacks import Kind
from thalweg.demo.board import Board
from thalweg.demo.feed import KEYS, PARTITIONS, now_ms
from thalweg.demo.score import Run, Score, State
from thalweg.demo.traffic import TOPICS, Traffic
from thalweg.demo.vitals import SCHEMAS

TICKS = 1_500


class Rig:
    """A log, and the job on it, fed by hand."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.file = folder / "demo.db"
        self.traffic = Traffic(seed, rate=200)
        self.start = now_ms() - TICKS * 100 - 60_000
        self.score = Score(Run(seed, 0, self.start, 0))
        self.board = Board(self.score)
        self.log = EmbeddedLog(self.file)
        for topic, partitions in PARTITIONS.items():
            self.log.ensure_topic(topic, partitions)
        self.damaged = 0

    def send(self, first: int, last: int) -> None:
        frames: dict[str, list[pl.DataFrame]] = {topic: [] for topic in TOPICS}
        for tick in range(first, last):
            for topic, frame in self.traffic.tick(tick, self.score.run.time_of(tick)).items():
                frames[topic].append(frame)
            if damaged := self.traffic.damaged(tick):
                self.damaged += self.log.append_records("requests", [damaged], partition=0)
        for topic in TOPICS:
            self.log.append(topic, pl.concat(frames[topic]), key=KEYS[topic])
        self.score.advance(last - 1)

    def run(self) -> int:
        """Runs the job to the end of the log; returns the watermark of the traffic."""
        built = job.build(self.file, self.board, 90.0)
        built.app.run(until_caught_up=True)
        built.close()
        status = built.app.status()
        assert all(operator.account.closes for operator in status.operators)
        watermarks = {source.topic: source.watermark for source in status.sources}
        return min(watermarks[topic] or 0 for topic in TOPICS)


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(tmp_path, getattr(request, "param", 7))
    yield made
    made.log.close()


@pytest.mark.parametrize("rig", [7, 8, 9], indirect=True)
def test_all_attacks_are_found_and_nothing_else(rig: Rig) -> None:
    rig.send(0, TICKS)
    watermark = rig.run()
    summary = rig.score.summary(watermark)
    assert summary.clean, (summary, summary.missed, summary.others)
    assert summary.found >= 12
    assert summary.look_alikes >= 12
    kinds = {v.scenario.kind for v in rig.score.verdicts(watermark) if v.state is State.FOUND}
    assert kinds == {kind for kind in Kind if kind.attack}
    dead = rig.log.records("requests.dlq")
    assert dead.height == rig.damaged
    matches = rig.log.read("matches")
    assert matches["pattern"].value_counts().sort("pattern")["pattern"].to_list() == ["brute-force", "sql-injection"]
    assert matches.height == rig.board.copy().matches


def test_a_stop_loses_and_repeats_nothing(rig: Rig, tmp_path: Path) -> None:
    for first in range(0, TICKS, 217):  # in the middle of attacks, too
        rig.send(first, min(TICKS, first + 217))
        watermark = rig.run()
    assert rig.score.summary(watermark).clean
    at_once = Rig(tmp_path / "once", 7)
    at_once.start, at_once.score.run = rig.start, Run(7, 0, rig.start, 0)
    at_once.send(0, TICKS)
    at_once.run()
    order = ["pattern", "match_end"]
    for topic, by in (("matches", order), ("requests-by-route", ["route", "window_start"])):
        one, other = (r.log.read(topic).sort(by) for r in (rig, at_once))
        assert one.equals(other.select(one.columns)), topic
    at_once.log.close()


def test_the_cpu_rule_sees_a_busy_core(rig: Rig) -> None:
    start = rig.start // 1000 * 1000
    rows = [
        {"ts": start + i * 100, "core": core, "percent": 100.0 if core == 1 and 30 <= i < 50 else 20.0}
        for i in range(100)
        for core in (0, 1)
    ]
    rig.log.append("cpu", pl.DataFrame(rows, schema=SCHEMAS["cpu"]))
    rig.send(0, 10)
    rig.run()
    shown = rig.board.copy()
    assert shown.cpu_alerts == [(1, start + 4000), (1, start + 5000)]
    assert (shown.alerts, shown.suppressed) == (1, 1)
    assert [note.text for note in shown.notes] == ["core 1 at 100 % over a second"]
