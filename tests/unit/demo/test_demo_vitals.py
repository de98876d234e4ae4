"""The vitals are this machine's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from thalweg.demo.vitals import SCHEMAS, TOP, Burst, Vitals


def test_samples_have_what_they_say() -> None:
    vitals = Vitals()
    vitals.sample(1)
    sample = vitals.sample(2)
    for topic, schema in SCHEMAS.items():
        assert dict(sample[topic].schema) == schema
        assert sample[topic]["ts"].unique().to_list() == [2]
    assert sample["cpu"]["core"].to_list() == list(range(psutil.cpu_count() or 1))
    assert sample["cpu"]["percent"].is_between(0, 100).all()
    machine = sample["machine"].row(0, named=True)
    assert 0 < machine["memory"] < 100
    assert 0 < machine["memory_used"] < psutil.virtual_memory().total
    assert 1 <= sample["processes"].height <= TOP


def test_a_process_that_ends_is_left_out() -> None:
    vitals = Vitals()
    vitals.sample(1)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    vitals._watched = {child.pid: psutil.Process(child.pid)}
    vitals._next_scan = float("inf")
    assert vitals.sample(2)["processes"]["pid"].to_list() == [child.pid]
    child.kill()
    child.communicate()
    assert vitals.sample(3)["processes"].is_empty()
    assert vitals._watched == {}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="can't be pinned to a core here")
def test_the_burst_runs_where_it_says_and_ends() -> None:
    burst = Burst(60)
    burst.start()
    assert burst._process is not None
    child = psutil.Process(burst._process.pid)
    deadline = time.monotonic() + 20
    while child.cpu_affinity() != [burst.core] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.cpu_affinity() == [burst.core]
    burst.stop()
    assert not child.is_running()
    burst.stop()
