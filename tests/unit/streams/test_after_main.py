"""A job that outlives the main thread: it runs in a thread of its own, and the program's last line is behind it."""

from __future__ import annotations

import subprocess
import sys

from thalweg.connectors.sqlite_log import EmbeddedLog

PROGRAM = """
import concurrent.futures.thread
import sys
import threading
import time

from thalweg import App, col

app = App("late", broker=f"sqlite:///{sys.argv[1]}")
app.stream("in", timestamp="t").key_by("k").aggregate(n=col("v").sum()).to("out", changes=True)


def job():
    while not concurrent.futures.thread._shutdown:  # set when the main thread has ended
        time.sleep(0.01)
    app.run(until_caught_up=True)


threading.Thread(target=job).start()
"""


def test_a_job_may_start_when_the_main_thread_has_ended(tmp_path):
    log = EmbeddedLog(tmp_path / "data.db")
    log.append("in", [{"t": 1, "k": "a", "v": 2}, {"t": 2, "k": "a", "v": 3}])
    run = [sys.executable, "-c", PROGRAM, str(tmp_path / "data.db")]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Error" not in ended.stderr
    assert log.read("out")["n"].to_list()[-1] == 5
