"""Savepoints: stop, upgrade the program, go on; refused where the state does not fit."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.unit.state.test_queries import running, wait_for

from thalweg import App, col
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import StateError
from thalweg.streams import (
    ListState,
    ProcessFunction,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
    ValueState,
)
from thalweg.streams.savepoints import Savepoint

DATA = Path(__file__).parents[2] / "data" / "state"


class First(ProcessFunction):
    """Version 1 of a keyed function."""

    total = ValueState(pl.Int32, default=0)
    best = ValueState(int)
    recent = ListState(pl.Int32)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.total.set(self.total.get() + event.v)
        self.best.set(max(self.best.get() or 0, event.v))
        self.recent.append(event.v)
        ctx.set_timer(10_000)


class Second(ProcessFunction):
    """Version 2: `total` and `recent` are wider, `best` is gone, `events` is new."""

    total = ValueState(float, default=0.0)
    events = ValueState(int, default=0)
    recent = ListState(int)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.total.set(self.total.get() + event.v)
        self.events.set(self.events.get() + 1)
        return {"total": self.total.get(), "events": self.events.get(), "recent": self.recent.get()}

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        return {"total": self.total.get(), "events": -timer.time, "recent": self.recent.get()}


def first(path: Path, name: str = "job") -> App:
    app = App(name, broker=f"sqlite:///{path}", commit_interval=5)
    keyed = app.stream("in", timestamp="t").key_by("k")
    keyed.window(TumblingWindow(1000)).aggregate(s=col("v").sum(), m=col("v").max()).uid("tumbling").to("tumbling")
    keyed.window(SlidingWindow(1000, 500)).aggregate(s=col("v").sum()).uid("sliding").to("sliding")
    keyed.window(SessionWindow(400)).aggregate(s=col("v").sum()).uid("sessions").to("sessions")
    keyed.aggregate(s=col("v").sum()).uid("all").to("all", changes=True)
    keyed.process(First, uid="process").to("process")
    return app


def second(path: Path, name: str = "job") -> App:
    """Each step with another aggregate, or one less, or wider state."""
    app = App(name, broker=f"sqlite:///{path}", commit_interval=5)
    keyed = app.stream("in", timestamp="t").key_by("k")
    new = {"low": col("v").min()}
    keyed.window(TumblingWindow(1000)).aggregate(s=col("v").sum(), **new).uid("tumbling").to("tumbling")
    keyed.window(SlidingWindow(1000, 500)).aggregate(s=col("v").sum(), **new).uid("sliding").to("sliding")
    keyed.window(SessionWindow(400)).aggregate(s=col("v").sum(), **new).uid("sessions").to("sessions")
    keyed.aggregate(s=col("v").sum(), **new).uid("all").to("all", changes=True)
    keyed.process(Second, uid="process").to("process")
    return app


BEFORE = [{"t": t, "k": k, "v": v} for t, k, v in [(100, "a", 5), (150, "b", 7), (300, "a", 2)]]
AFTER = [{"t": t, "k": k, "v": v} for t, k, v in [(500, "a", 10), (9000, "b", 1), (20_000, "c", 1)]]


def write_savepoint(folder: Path) -> Path:
    """What `tests/data/state/version-1.savepoint` was made by."""
    log = EmbeddedLog(folder / "data.db")
    log.append("in", BEFORE)
    first(folder / "data.db").run(until_caught_up=True)
    first(folder / "data.db").savepoint(folder / "v1.savepoint")
    return folder / "v1.savepoint"


def check_evolved(log: EmbeddedLog) -> None:
    """The results of `second` after `AFTER`, on top of the state of `first` after `BEFORE`."""
    tumbling = log.read("tumbling").filter(k="a").select("window_start", "s", "low").rows()
    assert tumbling == [(0, 17, 10)]  # what is new counts from the upgrade on
    sliding = log.read("sliding").filter(k="a").sort("window_start").select("window_start", "s", "low").rows()
    assert sliding == [(-500, 7, None), (0, 17, 10), (500, 10, 10)]
    assert log.read("sessions").filter(k="a").select("window_start", "s", "low").rows() == [(100, 17, 10)]
    assert log.read("all").filter(k="a").select("s", "low").rows()[-1] == (17, 10)
    process = log.read("process").filter(k="a").select("total", "events", "recent").rows()
    assert process == [(17.0, 1, [5, 2]), (17.0, -10_000, [5, 2])]
    assert log.read("process").filter(pl.col("k") == "b")["total"].to_list() == [8.0, 8.0]


def test_stop_upgrade_resume(tmp_path):
    saved = write_savepoint(tmp_path)
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", AFTER)
    second(tmp_path / "data.db").run(until_caught_up=True, from_savepoint=saved)
    check_evolved(log)


def test_a_restart_alone_takes_the_state_over_as_well(tmp_path):
    write_savepoint(tmp_path)
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", AFTER)
    second(tmp_path / "data.db").run(until_caught_up=True)
    check_evolved(log)


def test_a_savepoint_of_an_earlier_version_is_read(tmp_path):
    """The file was written by version 0.1 and is never written again: what it holds must stay readable."""
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", BEFORE + AFTER)
    second(tmp_path / "data.db", "another").run(until_caught_up=True, from_savepoint=DATA / "version-1.savepoint")
    check_evolved(log)


def test_state_stays_the_same_however_often_it_is_saved_and_taken_back(tmp_path):
    """Each start that nothing touches a key in takes all columns back as they were, and saves no more of them."""
    write_savepoint(tmp_path)
    path = tmp_path / "data.db"
    sizes = []
    for turn in range(3):
        saved = first(path).savepoint(tmp_path / f"{turn}.savepoint")
        sizes.append([(operator.id, operator.bytes) for operator in saved.operators])
    assert sizes[0] == sizes[1] == sizes[2]
    log = EmbeddedLog(path)
    log.append("in", AFTER)
    second(path).run(until_caught_up=True)
    check_evolved(log)


def test_going_back_to_a_savepoint_undoes_what_came_after(tmp_path):
    saved = write_savepoint(tmp_path)
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", AFTER[:1])
    first(tmp_path / "data.db").run(until_caught_up=True)
    app = second(tmp_path / "data.db")
    with_new = [{"t": 600, "k": "a", "v": 100}]
    log.append("in", with_new + AFTER[1:])
    app.run(until_caught_up=True, from_savepoint=saved)
    assert log.read("tumbling").filter(k="a").select("s", "low").rows() == [(117, 10)]
    again = second(tmp_path / "data.db")
    log.append("in", [{"t": 30_000, "k": "c", "v": 1}])
    again.run(until_caught_up=True)
    assert log.read("tumbling").filter(k="c")["window_start"].to_list() == [20_000]


def test_a_running_job_is_saved_at_a_commit(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", BEFORE)
    app = first(tmp_path / "data.db")
    with running(app):
        wait_for(app, "process", "a", lambda f: f.height and f["total"][0] == 7)
        results: list[Savepoint] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(app.savepoint(tmp_path / f"{n}.savepoint")))
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(results) == 3
    saved = Savepoint.read(tmp_path / "1.savepoint")
    assert sum(epoch.position for epoch in saved.epochs.values()) == 3
    assert {operator.id for operator in saved.operators} == {"tumbling", "sliding", "sessions", "all", "process"}
    fresh = tmp_path / "fresh.db"
    other = EmbeddedLog(fresh)
    other.append("in", BEFORE + AFTER)
    second(fresh).run(until_caught_up=True, from_savepoint=saved)
    check_evolved(other)
    log.append("in", AFTER)
    second(tmp_path / "data.db").run(until_caught_up=True)
    check_evolved(log)


def changed(path: Path, change: str) -> App:
    app = App("job", broker=f"sqlite:///{path}", forget_state=("sliding", "sessions", "all", "process", "tumbling"))
    stream = app.stream("in", timestamp="t")
    keyed = stream.key_by("k")
    if change == "window":
        keyed.window(TumblingWindow(2000)).aggregate(s=col("v").sum()).uid("tumbling").to("tumbling")
    elif change == "keys":
        stream.key_by("v").window(TumblingWindow(1000)).aggregate(s=col("t").sum()).uid("tumbling").to("tumbling")
    elif change == "kind":
        keyed.process(First, uid="tumbling").to("process")
    else:
        bad = {"total": ValueState(str)}
        keyed.process(lambda e, ctx: None, state=bad, uid="process").to("process")
    return app


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("window", r"saved state of 'tumbling' does not fit the program: window was .*1000.* and is .*2000.* now"),
        ("keys", "keys was k and is v now"),
        ("kind", "kind was window and is process now"),
        ("type", "'v:total' was saved as Int32 and is String now"),
    ],
)
def test_state_that_does_not_fit_is_refused(tmp_path, change, says):
    saved = write_savepoint(tmp_path)
    for start in ({"from_savepoint": saved}, {}):
        with pytest.raises(StateError, match=says):
            changed(tmp_path / "data.db", change).run(until_caught_up=True, **start)


def test_steps_that_are_gone_are_refused_or_forgotten_for_good(tmp_path):
    saved = write_savepoint(tmp_path)
    path = tmp_path / "data.db"

    def only(forget: tuple[str, ...]) -> App:
        app = App("job", broker=f"sqlite:///{path}", forget_state=forget)
        app.stream("in", timestamp="t").key_by("k").process(First, uid="process").to("process")
        return app

    gone = ("tumbling", "sliding", "sessions", "all")
    with pytest.raises(StateError, match="the savepoint of job 'job' holds state of operator 'all', 'sessions'"):
        only(()).run(until_caught_up=True, from_savepoint=saved)
    EmbeddedLog(path).append("in", AFTER[:1])
    only(gone).run(until_caught_up=True, from_savepoint=saved)
    only(()).run(until_caught_up=True)


def test_a_damaged_file_is_refused(tmp_path):
    content = (DATA / "version-1.savepoint").read_bytes()
    for bad, says in [
        (b"nothing", "is not a savepoint"),
        (content[:4] + b"\x09" + content[5:], "format version 9"),
        (content[:-1], "damaged"),
        (content[:-20] + bytes(20), "damaged"),
        (content[:9] + b"\xc1" * 10 + content[19:], "damaged"),
    ]:
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(StateError, match=says):
            Savepoint.read(tmp_path / "bad")
    with pytest.raises(StateError, match="can't read the savepoint"):
        Savepoint.read(tmp_path / "none")


def test_a_job_that_has_read_nothing_has_nothing_to_save(tmp_path):
    EmbeddedLog(tmp_path / "data.db").ensure_topic("in", 1)
    with pytest.raises(StateError, match="read nothing yet"):
        first(tmp_path / "data.db").savepoint(tmp_path / "x")
    assert not (tmp_path / "x").exists()


_PROGRAM = """
import sys
from thalweg import App, col
from thalweg.streams import TumblingWindow

app = App("job", broker="sqlite:///data.db")
counts = app.stream("in", timestamp="t").key_by("k").window(TumblingWindow(1000))
counts.aggregate(n=col("v").count()).uid("counts").to("out")
if __name__ == "__main__":
    app.run(until_caught_up=True)
"""


def test_the_command_line(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", BEFORE)
    (tmp_path / "job.py").write_text(_PROGRAM)

    def thalweg(*arguments: str) -> str:
        command = [sys.executable, "-m", "thalweg.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    thalweg("run", "job.py")
    assert "job job, 1 steps with state" in thalweg("savepoint", "create", "job.py", "s.savepoint")
    shown = thalweg("savepoint", "inspect", "s.savepoint")
    assert "counts" in shown
    assert "keys: k" in shown
    assert '"position": 3' in thalweg("savepoint", "inspect", "s.savepoint", "--json")
    log.append("in", AFTER)
    thalweg("run", "job.py")
    before = log.read("out").height
    assert before == 3
    thalweg("savepoint", "resume", "job.py", "s.savepoint")
    assert log.read("out").height == 2 * before, "what came after the savepoint comes again"
