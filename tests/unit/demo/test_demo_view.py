"""The live view fits its terminal and says what there is to say."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from thalweg.demo import lines
from thalweg.demo.attacks import scenarios
from thalweg.demo.board import Note, Shown
from thalweg.demo.draw import bar, ms, size, span, sparkline
from thalweg.demo.score import Run, Score
from thalweg.demo.screen import Moment
from thalweg.demo.view import View
from thalweg.streams.engine.status import JobStatus, LatencyStatus

START = 1_700_000_000_000


def moment(cores: int = 2, ticks: int = 300) -> Moment:
    """Half a minute in: most found, one missed, one false alarm."""
    score = Score(Run(7, 0, START, 0))
    score.advance(ticks)
    attacks = [s for s in scenarios(7, 0, ticks) if s.kind.attack and s.detectable_tick < ticks]
    for attack in attacks[1:]:
        due = score.run.time_of(attack.detectable_tick)
        score.report(attack.kind, attack.key, due, due + 250)
    score.report(attacks[0].kind, "user-0042", START, START)
    watermark = START + ticks * 100
    core = {"mean": 93.0, "max": 100.0, "p95": 99.0}
    route = {"route": "/checkout", "n": 400, "errors": 20, "p50": 110.0, "p95": 350.0, "p99": 1250.0}
    return Moment(
        elapsed=30.0,
        now=watermark + 400,
        shown=Shown(
            cores={n: {"core": n, **core} for n in range(cores)},
            machine={"memory": 41.0, "used": 6.4e9, "disk_read": 0.0, "disk_write": 5e6, "net_in": 9e3, "net_out": 1.0},
            processes=[{"name": "a-process-with-a-long-name" * 3, "pid": 4_194_303, "cpu": 312.0, "memory": 8e9}] * 30,
            routes=[route] * 30,
            routes_end=watermark,
            payments=[{"country": "DE", "n": 120, "total": 1_234_567.8, "p95": 410.0}] * 30,
            payments_end=watermark,
            notes=[Note(START, "brute force", f"user-{n:04d} 5 failed logins", "critical") for n in range(60)],
            windows=1_234,
            matches=3,
            alerts=4,
        ),
        status=JobStatus("demo", "running", "exactly-once", latency=LatencyStatus(31.0, 64.0, 88.0, 140.0), dead=6),
        watermark=watermark,
        lag=12,
        verdicts=score.verdicts(watermark, 100),
        summary=score.summary(watermark),
        rates=[1000.0 + 10 * n for n in range(120)],
        first_tick=0,
        sent=31_000,
        damaged=6,
        file=Path(".thalweg/demo.db"),
        file_bytes=12_300_000,
        resumed=True,
        seed=7,
        threshold=90.0,
        burst="burst found",
        ends_after=60.0,
    )


def drawn(what: Moment, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(View(what), end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 40), (220, 70)])
@pytest.mark.parametrize("cores", [1, 2, 8, 128])
def test_it_fills_the_terminal_exactly(width: int, height: int, cores: int) -> None:
    rows = drawn(moment(cores), width, height)
    assert len([row for row in rows if row]) == height
    from rich.cells import cell_len

    assert {cell_len(row) for row in rows if row} == {width}


@pytest.mark.parametrize(("width", "height"), [(100, 30), (140, 40)])
def test_it_says_what_matters(width: int, height: int) -> None:
    screen = "\n".join(drawn(moment(), width, height))
    for part in ("events/s", "1,2", "31 ms", "88 ms", "watermark", "lag 12", "400 ms behind", "core 1", "/checkout"):
        assert part in screen
    for part in ("Hidden: 3 of 4 found, 1 other, 1 missed", "burst found", "brute force", "5.0%", "dead 6 of 6"):
        assert part in screen
    assert "MISSED" in "\n".join(drawn(moment(ticks=200), width, height))


def test_an_empty_beginning_can_be_drawn() -> None:
    what = replace(moment(), shown=Shown(), status=JobStatus("demo", "starting"), watermark=None, rates=[], verdicts=[])
    screen = "\n".join(drawn(what, 100, 30))
    assert "nothing yet" in screen
    assert "starting" in screen


def test_the_plain_lines() -> None:
    what = moment()
    opening = "\n".join(lines.opening(what, 30.0))
    assert "goes on where it was" in opening
    assert opening.count("ATTACK") == 4
    assert "1,234 window results" in "\n".join(text.plain for text in lines.closing(what))
    closing = "\n".join(text.plain for text in lines.closing(what))
    assert "FALSE ALARM  brute force user-0042" in closing
    assert "MISSED" in closing
    assert "6 of 6 damaged records" in closing
    assert "31 ms" in lines.status_line(what)
    assert "core 0 93 %" in (lines.window_line(what) or "")
    assert lines.window_line(replace(what, shown=Shown())) is None


def test_drawing() -> None:
    assert bar(0, 4).plain == "····"
    assert bar(100, 4).plain == "████"
    assert bar(150, 4).plain == "████"
    assert bar(50, 3).plain == "█▌·"
    assert sparkline([], 3).plain == "   "
    assert sparkline([0, 5, 10], 5).plain == "  ▁▄█"
    assert [span(0), span(3_600)] == ["00:00", "1:00:00"]
    assert [size(999), size(1_000), size(2e15)] == ["999 B", "1.0 kB", "2000 TB"]
    assert ms(9.96) == "10.0 ms"
