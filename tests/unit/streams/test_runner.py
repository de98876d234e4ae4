"""The runner on a broker in memory: recovery from a crash at each step of a commit, clean ends, errors that stop it."""

from __future__ import annotations

import gc
import importlib.util
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from thalweg.errors import ConfigurationError, ConnectorError, FencedError, OperatorFailed, RestartRequired, StateError
from thalweg.streams import App, CheckpointConfig, TumblingWindow
from thalweg.streams.connector import Commit
from thalweg.streams.engine.runner import wall_clock
from thalweg.streams.engine.state_codec import decode

_spec = importlib.util.spec_from_file_location("memory_broker", Path(__file__).with_name("memory_broker.py"))
assert _spec is not None
assert _spec.loader is not None
memory_broker = sys.modules.setdefault("memory_broker", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(memory_broker)
MemoryBroker = memory_broker.MemoryBroker

KEYS = ["window_end", "k"]


def rows(start: int, end: int) -> list[dict[str, Any]]:
    return [{"t": n * 10, "k": "abc"[n % 3], "v": n} for n in range(start, end)]


def make_app(broker: Any, **settings: Any) -> App:
    app = App("job", broker=broker, **{"commit_interval": 1, **settings})
    events = app.stream("in", timestamp="t", watermark=50)
    sums = events.filter(pl.col("v") >= 0).key_by("k").window(TumblingWindow(100))
    sums.aggregate(s=pl.col("v").sum(), n=pl.col("v").count()).to("out")
    return app


def filled(parts: int = 2, count: int = 300, batch_rows: int = 40) -> Any:
    broker = MemoryBroker(wall_clock)
    broker.batch_rows = batch_rows
    broker.lockstep = True
    for partition in range(parts):
        broker.put("in", [*rows(partition, count), b"bad", {"t": None}], partition, parts)
    return broker


def output(broker: Any) -> pl.DataFrame:
    return broker.output("out").sort(KEYS)


def undisturbed(guarantee: str = "exactly-once") -> pl.DataFrame:
    broker = filled()
    make_app(broker, guarantee=guarantee).run(until_caught_up=True)
    return output(broker)


_before: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_others() -> None:
    """What other tests in this process have left running is not this one's."""
    _before.clear()
    _before.update(threading.enumerate())


def no_threads_left() -> bool:
    return not [t for t in threading.enumerate() if t.name.startswith("thalweg-") and t not in _before]


def test_it_processes_commits_and_ends() -> None:
    broker = filled()
    app = make_app(broker)
    app.run(until_caught_up=True)
    out = output(broker)
    ends = [100 * n for n in range(1, 30)]
    assert out["window_end"].unique(maintain_order=True).to_list() == ends
    assert out["n"].sum() == sum(1 for p in (0, 1) for n in range(p, 300) if n * 10 < 2900)
    assert broker.output("in.dlq").height == 4
    assert (broker.open_sources, broker.open_committers, broker.closed) == (0, 0, False)
    assert no_threads_left()
    status = app.status()
    assert (status.state, status.received, status.dead, status.late) == ("stopped", 603, 4, 0)
    assert all(operator.account.closes for operator in status.operators)
    assert status.commits.count == len(broker.jobs["job"].commits) > 0
    assert status.latency.p50 is not None


@pytest.mark.parametrize("step", ["before", "prepared", "after"])
@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_commit_that_fails_at_any_step_loses_nothing(step: str, guarantee: str, number: int) -> None:
    broker = filled()
    failures: list[int] = []

    def fail(at: str, commit: Commit) -> None:
        if at == step and commit.number == number and not failures:
            failures.append(commit.number)
            raise RestartRequired(f"scripted: {at}")

    broker.fail = fail
    app = make_app(broker, guarantee=guarantee)
    app.run(until_caught_up=True)
    assert failures == [number]
    expected = undisturbed(guarantee)
    if guarantee == "exactly-once":
        assert_frame_equal(output(broker), expected)
    else:
        assert_frame_equal(output(broker).unique(KEYS).sort(KEYS), expected)  # some twice, none wrong or missing
    assert app.status().restarts == 1
    assert no_threads_left()


@pytest.mark.parametrize("kills", [1, 2, 5])
def test_a_job_that_is_killed_and_started_again_goes_on(kills: int) -> None:
    """A crash: everything in memory is lost, at a commit that did or did not take effect."""
    broker = filled()

    class Killed(BaseException):
        pass

    for kill in range(kills):

        def fail(at: str, commit: Commit, kill: int = kill) -> None:
            if commit.number == 2 and at == ("before", "prepared", "after")[kill % 3]:
                raise Killed

        broker.fail = fail
        with pytest.raises(Killed):
            make_app(broker).run(until_caught_up=True)
        assert no_threads_left()
    broker.fail = lambda at, commit: None
    make_app(broker).run(until_caught_up=True)
    assert_frame_equal(output(broker), undisturbed())


def test_epochs_count_per_partition_and_only_where_something_changed() -> None:
    broker = MemoryBroker(wall_clock)
    app = App("job", broker=broker, commit_interval=1)
    app.stream("in", timestamp="t").filter(pl.col("v") > 0).to("out")
    broker.put("in", rows(0, 10), 0, 2)
    app.run(until_caught_up=True)
    broker.put("in", rows(10, 20), 0)
    app.run(until_caught_up=True)
    broker.put("in", rows(0, 5), 1)
    app.run(until_caught_up=True)
    epochs = broker.jobs["job"].epochs
    assert {tp: (e.epoch, e.position, e.max_timestamp) for tp, e in epochs.items()} == {
        ("in", 0): (2, 20, 190),
        ("in", 1): (1, 5, 40),
    }


def test_nothing_new_commits_nothing() -> None:
    broker = filled()
    make_app(broker).run(until_caught_up=True)
    count = len(broker.jobs["job"].commits)
    make_app(broker).run(seconds=0.2)
    assert len(broker.jobs["job"].commits) == count


def test_state_grows_by_deltas_and_checkpoints_supersede_them() -> None:
    broker = filled(batch_rows=10)
    make_app(broker, checkpoint=CheckpointConfig(interval="1d")).run(until_caught_up=True)
    full = [any(s.full for s in c.states) for c in broker.jobs["job"].commits]
    assert full[0]
    assert not any(full[1:])
    assert len(full) > 3
    often = filled(batch_rows=10)
    make_app(often, checkpoint=CheckpointConfig(interval=1)).run(until_caught_up=True)
    assert sum(any(s.full for s in c.states) for c in often.jobs["job"].commits) > 2
    assert_frame_equal(output(often), output(broker))


def test_state_of_an_operator_that_is_gone_is_refused() -> None:
    broker = filled()
    make_app(broker).run(until_caught_up=True)
    broker.put("in", rows(300, 310))

    def changed(**settings: Any) -> App:
        app = App("job", broker=broker, **settings)
        events = app.stream("in", timestamp="t", watermark=50)
        counts = events.key_by("k").window(TumblingWindow(100)).aggregate(n=pl.col("v").count()).uid("other")
        counts.to("out")
        return app

    with pytest.raises(StateError, match=r"'window-1'.*uid"):
        changed().run(until_caught_up=True)
    changed(forget_state=("window-1",)).run(until_caught_up=True)
    states = broker.jobs["job"].commits[-1].states
    assert {record.operator_id for record in states if decode(record).delta.puts} == {"other"}
    changed().run(until_caught_up=True)  # what was forgotten is gone for good


def test_a_failing_subscriber_stops_the_job_and_its_epoch_is_not_committed() -> None:
    broker = filled()
    app = App("job", broker=broker, commit_interval=60_000)
    seen: list[Any] = []

    def subscriber(row: Any) -> None:
        seen.append(row)
        raise ValueError("no")

    app.stream("in", timestamp="t").subscribe(subscriber)
    with pytest.raises(OperatorFailed, match=r"subscribe-1.*ValueError: no") as caught:
        app.run(until_caught_up=True)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(seen) == 1
    assert broker.jobs["job"].commits == []
    assert app.status().state == "failed"
    assert "ValueError" in (app.status().error or "")
    assert no_threads_left()


def test_a_failing_subscriber_may_make_dead_letters() -> None:
    broker = filled(parts=1, count=3)
    app = App("job", broker=broker)
    app.stream("in", timestamp="t").subscribe(lambda row: 1 // row.v, on_error="dead-letter")
    app.run(until_caught_up=True)
    classes = [h["error_class"] for w in broker.written["in.dlq"] for h in w.headers or ()]
    assert sorted(classes) == [b"MalformedJson", b"MissingTimestamp", b"ZeroDivisionError"]


def test_subscribers_get_every_row_and_frames() -> None:
    broker = filled(parts=1, count=5)
    app = App("job", broker=broker)
    got: list[int] = []
    frames: list[pl.DataFrame] = []
    app.stream("in", timestamp="t").subscribe(lambda row: got.append(row.v)).subscribe_batches(frames.append)
    app.run(until_caught_up=True)
    assert got == [0, 1, 2, 3, 4]
    assert pl.concat(frames)["v"].to_list() == got
    assert set(frames[0].columns) == {"t", "k", "v"}


def test_a_fenced_job_stops() -> None:
    broker = filled()

    def take_over(at: str, commit: Commit) -> None:
        if at == "before" and commit.number == 2:
            broker.jobs["job"].generation += 1

    broker.fail = take_over
    with pytest.raises(FencedError):
        make_app(broker).run(until_caught_up=True)
    assert no_threads_left()


def test_it_gives_up_when_no_restart_gets_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.streams.engine.runner.MAX_RESTARTS", 2)
    broker = filled()

    def lost() -> None:
        raise RestartRequired("partitions are gone")

    broker.poll_fail = lost
    with pytest.raises(ConnectorError, match="gave up after 2 restarts"):
        make_app(broker).run(until_caught_up=True)


def test_an_unknown_topic_is_an_error_before_anything_runs() -> None:
    app = App("job", broker=MemoryBroker())
    app.stream("nothing", timestamp="t").to("out")
    with pytest.raises(ConnectorError, match="nothing"):
        app.run(until_caught_up=True)
    assert no_threads_left()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_stop_finishes_the_batch_and_commits() -> None:
    broker = filled()
    broker.lockstep = False
    app = make_app(broker, commit_interval=60_000)
    thread = threading.Thread(target=app.run, daemon=True)
    thread.start()
    assert eventually(lambda: app.status().received == 603)
    with pytest.raises(ConfigurationError, match="running already"):
        app.run()
    app.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert app.status().state == "stopped"
    assert_frame_equal(output(broker), undisturbed())
    assert no_threads_left()


def test_events_that_come_while_it_runs_are_processed() -> None:
    broker = filled(parts=1, count=10)
    app = make_app(broker)
    thread = threading.Thread(target=app.run, daemon=True)
    thread.start()
    try:
        assert eventually(lambda: bool(broker.jobs["job"].commits) if "job" in broker.jobs else False)
        broker.put("in", rows(10, 40))
        assert eventually(lambda: broker.output("out").height >= 9)
    finally:
        app.stop()
        thread.join(20)
    assert_frame_equal(
        output(broker).select("window_end", "k", "n").filter(pl.col("window_end") == 100),
        pl.DataFrame({"window_end": [100] * 3, "k": ["a", "b", "c"], "n": [4, 3, 3]}),
    )


def test_seconds_bound_the_run() -> None:
    broker = filled(parts=1, count=10)
    started = time.monotonic()
    make_app(broker).run(seconds=0.3)
    assert time.monotonic() - started >= 0.3
    assert broker.jobs["job"].epochs[("in", 0)].position == 12


def test_a_quiet_stream_is_closed_by_the_clock_when_asked_and_a_restart_remembers() -> None:
    broker = MemoryBroker(wall_clock)
    broker.put("in", rows(0, 10))

    def closing() -> App:
        app = App("job", broker=broker, commit_interval=1)
        events = app.stream("in", timestamp="t", close_idle_after=200)
        events.window(TumblingWindow(100)).aggregate(n=pl.col("v").count()).to("out")
        return app

    app = closing()
    thread = threading.Thread(target=app.run, daemon=True)
    thread.start()
    assert eventually(lambda: broker.output("out").height == 1)
    app.stop()
    thread.join(20)
    assert broker.output("out").to_dicts() == [{"window_start": 0, "window_end": 100, "n": 10, "idle_closed": True}]
    assert broker.jobs["job"].epochs[("in", 0)].max_timestamp >= 100
    broker.put("in", [{"t": 95, "k": "a", "v": 1}])
    closing().run(until_caught_up=True)
    assert broker.output("out").height == 1
    assert broker.output("in.dlq").height == 1


def test_late_events_may_stay_out_of_the_dead_letters() -> None:
    for late_events, expected in (("dead-letter", 1), ("side-output", 0)):
        broker = MemoryBroker(wall_clock)
        broker.put("in", [*rows(0, 30), {"t": 5, "k": "a", "v": 1}])
        app = App("job", broker=broker, late_events=late_events)
        counts = app.stream("in", timestamp="t").window(TumblingWindow(100)).aggregate(n=pl.col("v").count())
        counts.late.to("late")
        app.run(until_caught_up=True)
        assert broker.output("in.dlq").height == expected
        assert broker.output("late").height == 1


def test_an_app_without_a_broker_setting_refuses_settings_for_an_open_one() -> None:
    with pytest.raises(ConfigurationError, match="retention"):
        App("job", broker=MemoryBroker(), retention="1d")


def test_the_collector_passes_over_what_was_there_before_the_job(monkeypatch):
    """Only while the job runs, and not over what its session makes."""
    frozen: list[int] = []
    broker = filled()
    app = make_app(broker)
    commit = memory_broker.MemoryCommitter.commit
    monkeypatch.setattr(
        memory_broker.MemoryCommitter,
        "commit",
        lambda self, what: (frozen.append(gc.get_freeze_count()), commit(self, what))[1],
    )
    app.run(until_caught_up=True)
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
