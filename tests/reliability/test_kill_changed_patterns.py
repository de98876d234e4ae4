"""kill -9 of a job whose patterns were changed while it ran: the next start of the program goes on with them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thalweg.connectors.sqlite_log import EmbeddedLog

_JOB = """
import sys, threading
import polars as pl
from thalweg import App
from thalweg.cep import PatternBuilder, PatternMatcher

def pair(id, first, second):
    kind = pl.col("kind")
    return PatternBuilder.create(id).where("a", kind == first).where("b", kind == second).within("1h").build()

matcher = PatternMatcher(key="user")
for pattern in (pair("kept", "a", "b"), pair("replaced", "a", "x"), pair("removed", "a", "b")):
    matcher.register_pattern(pattern)
app = App("job", broker=f"sqlite:///{sys.argv[1]}", commit_interval=5)
stream = app.stream("in", schema={"t": int, "user": str, "kind": str}, timestamp="t", watermark=0, idle_timeout=None)
stream.detect(matcher).to("out")

def steer():
    for line in sys.stdin:
        matcher.register_pattern(pair("new", "c", "d"))
        matcher.replace_pattern(pair("replaced", "c", "b"))
        matcher.remove_pattern("removed")
        print("changed", flush=True)

threading.Thread(target=steer, daemon=True).start()
app.run(until_caught_up=sys.argv[2] == "to the end")
"""


class Log:
    """What goes in and comes out; each event that goes in is a second later than the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = EmbeddedLog(path)
        self.log.ensure_topic("in", 1)
        self.log.ensure_topic("out", 1)
        self.time = 0

    def append(self, *events: tuple[str, str]) -> None:
        """Events (user, kind), and one that lets the watermark pass them."""
        for user, kind in (*events, ("nobody", "z")):
            self.time += 1_000
            self.log.append("in", [{"t": self.time, "user": user, "kind": kind}], key="user")

    def start(self, how: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _JOB, str(self.path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def found(self) -> list[tuple[str, str]]:
        """Matches that are committed: (pattern, user)."""
        rows = self.log.read("out")
        return sorted(rows.select("pattern", "user").rows()) if rows.height else []

    def wait_for(self, match: tuple[str, str], job: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while match not in self.found():
            assert job.poll() is None, "the job ended by itself"
            assert time.monotonic() < deadline, f"{match} did not come; there are {self.found()}"
            time.sleep(0.02)


@pytest.mark.timeout(280)
def test_changed_patterns_and_their_partial_matches_survive_kill_9(tmp_path: Path):
    log = Log(tmp_path / "job.db")
    job = log.start("until it is killed")
    log.append(("one", "a"), ("one", "b"))
    log.wait_for(("kept", "one"), job)
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write("change\n")
    job.stdin.flush()
    assert job.stdout.readline() == "changed\n"
    # The partial matches of `open` belong to patterns that the program does not have.
    log.append(("open", "c"), ("two", "a"), ("two", "b"))
    log.wait_for(("kept", "two"), job)
    job.send_signal(signal.SIGKILL)
    job.wait(30)
    job = log.start("until it is killed")
    log.append(("three", "a"), ("three", "b"))
    log.wait_for(("kept", "three"), job)
    job.send_signal(signal.SIGKILL)
    job.wait(30)
    log.append(("open", "d"), ("open", "b"), ("four", "a"), ("four", "b"))
    assert log.start("to the end").wait(120) == 0
    kept = [("kept", name) for name in ("four", "one", "three", "two")]
    assert log.found() == sorted([*kept, ("removed", "one"), ("new", "open"), ("replaced", "open")])
