"""kill -9 of a job with a state machine, rules and a correlation on the embedded log: nothing lost, nothing twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from thalweg.connectors.sqlite_log import EmbeddedLog

_JOB = """
import sys
from thalweg import App, col
from thalweg.cep import EventCorrelator, Rule, RuleEngine, State, StateMachine, Transition

machine = StateMachine(
    id="session", initial="out", key="user",
    states={
        "out": State(), "in": State(timeout=400, on_timeout="lost"),
        "paid": State(final=True), "lost": State(error=True),
    },
    transitions=[
        Transition("out", "in", trigger="login"),
        Transition("in", "paid", trigger="pay", guard=lambda e, i: e.n > 3 or i.visits("in") > 1),
        Transition("in", "in", trigger="login"),
    ],
)
rules = RuleEngine([
    Rule(id="high", priority=2, condition="n > 8 && type == 'pay'", stop=True),
    Rule(id="pay", condition=lambda e: e.type == "pay"),
])
app = App("job", broker=f"sqlite:///{sys.argv[1]}", commit_interval=5, max_batch_rows=100)
settings = dict(schema={"t": int, "user": str, "type": str, "n": int}, timestamp="t", watermark=100, idle_timeout=None)
one, two = app.stream("one", **settings), app.stream("two", **settings)
both = one.union(two)
both.track(machine).to("changes")
both.apply_rules(rules).to("fired")
app.correlate(EventCorrelator(["one", "two"], "user", 50, id="both")).to("correlated")
print("up", flush=True)
app.run(until_caught_up=True)
"""

KEYS = {"changes": ["at", "user", "step"], "fired": ["t", "user", "n", "rule"], "correlated": ["window_end", "user"]}


def fill(path: Path, count: int = 3_000) -> EmbeddedLog:
    log = EmbeddedLog(path)
    generator = random.Random(7)
    for topic in ("one", "two"):
        log.ensure_topic(topic, 2)
        rows = [
            {
                "t": n * 2 + generator.randint(0, 99),
                "user": f"u{generator.randint(0, 60)}",
                "type": generator.choice(["login", "pay", "view"]),
                "n": generator.randint(0, 10),
            }
            for n in range(count)
        ]
        for start in range(0, count, 100):
            log.append(topic, rows[start : start + 100], key="user")
    return log


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _JOB, str(path)], stdout=subprocess.PIPE, text=True)


def results(log: EmbeddedLog, topic: str) -> pl.DataFrame:
    rows = log.read(topic)
    return rows.select(sorted(rows.columns)).sort(*KEYS[topic], maintain_order=True)


@pytest.mark.timeout(280)
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path):
    undisturbed = fill(tmp_path / "calm.db")
    assert start(tmp_path / "calm.db").wait(120) == 0
    log = fill(tmp_path / "killed.db")
    moments = random.Random(3)
    kills = 0
    for _ in range(3):
        job = start(tmp_path / "killed.db")
        assert job.stdout is not None
        assert job.stdout.readline() == "up\n"
        time.sleep(moments.uniform(0.2, 1.0))
        if job.poll() is None:
            job.send_signal(signal.SIGKILL)
            kills += 1
        job.wait(30)
    assert start(tmp_path / "killed.db").wait(120) == 0
    for topic in KEYS:
        expected = results(undisturbed, topic)
        assert expected.height > 150
        assert_frame_equal(results(log, topic), expected)
    assert kills > 0
