"""A job on several workers: its output is that of one, while workers come, go and die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from polars.testing import assert_frame_equal

from tests.reliability import crash

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Ends what a failed test has left running: a supervisor's workers, too, which go on without it."""
    yield
    for process in STARTED:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    STARTED.clear()


def start(job: crash.Job, command: list[str], **settings: str) -> subprocess.Popen[bytes]:
    with job.log.open("ab") as log:
        environment = {**job.environment, **settings}
        process = subprocess.Popen(
            command, env=environment, cwd=crash.ROOT, stdout=log, stderr=log, start_new_session=True
        )
    STARTED.append(process)
    return process


class Worker:
    """One worker of the sensor job, in a process of its own: as on a host of its own."""

    def __init__(self, job: crash.Job, slot: int) -> None:
        self.process = start(job, [sys.executable, str(crash.JOB)], THALWEG_SLOT=str(slot))

    def leave(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def await_members(bootstrap: str, group: str, count: int) -> None:
    """Waits until a consumer group is in order and has so many members."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + 90
    while True:
        try:
            found = admin.describe_consumer_groups([group])[group].result(10)
            state = f"{found.state} with {len(found.members)} members"
            if found.state == ConsumerGroupState.STABLE and len(found.members) == count:
                return
        except KafkaException as error:  # its coordinator is only just being chosen
            state = str(error)
        assert time.monotonic() < deadline, f"{group} is {state}"
        time.sleep(0.1)


def await_output(bootstrap: str, topic: str, job: crash.Job) -> None:
    """Waits for two more seconds of results."""
    probe = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"probe-{topic}", "isolation.level": "read_committed"}
    )
    before = crash.end_offsets(probe, topic)
    deadline = time.monotonic() + 60
    while crash.end_offsets(probe, topic) < before + 100:
        assert time.monotonic() < deadline, f"no output:\n{job.log.read_text()[-4000:]}"
        time.sleep(0.1)
    probe.close()


def supervised(job: crash.Job, workers: int, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thalweg.cli", "run", str(crash.JOB), "--workers", str(workers), "--", *arguments]
    return start(job, command)


def finish(job: crash.Job, workers: int) -> None:
    code = supervised(job, workers, "--until-caught-up").wait(120)
    assert code == 0, job.log.read_text()[-4000:]


def check(bootstrap: str, source: str, sink: str, events: pl.DataFrame, slide: int = 1_000) -> None:
    expected, late = crash.expected(events, slide)
    results = crash.results_of(bootstrap, sink)
    assert_frame_equal(results, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)
    assert len(crash.read_committed(bootstrap, f"{source}.dlq")) == late > 0


def test_two_workers_under_a_supervisor_give_what_one_gives(kafka, topic, new_topic):
    sink = new_topic()
    events = crash.readings(60_000, 20_000)
    crash.feed(kafka.bootstrap, topic, events, 1e9, threading.Event())
    job = crash.Job(kafka.bootstrap, topic, sink)
    finish(job, 2)
    check(kafka.bootstrap, topic, sink, events)
    assert job.log.read_text().count("starting it again") == 0


def test_overlapping_windows_of_one_worker_are_taken_over_by_three(kafka, topic, new_topic):
    """The three get slices whose first windows were given by the one."""
    sink, slide = new_topic(), 250
    events = crash.readings(40_000, 10_000)
    job = crash.Job(kafka.bootstrap, topic, sink)
    job.environment["JOB_SLIDE"] = str(slide)
    for part, workers in ((events[:20_000], 1), (events[20_000:], 3)):
        crash.feed(kafka.bootstrap, topic, part, 1e9, threading.Event())
        finish(job, workers)
    check(kafka.bootstrap, topic, sink, events, slide)


def test_workers_come_go_and_die_and_nothing_is_lost_or_doubled(kafka, topic, new_topic):
    """1 → 3 → 2 workers while events flow: two join, one is killed and stays away, one leaves in order and is back."""
    sink = new_topic()
    rate = 2_000
    events = crash.readings(rate * 120, rate)
    stop, ration = threading.Event(), crash.Ration()
    job = crash.Job(kafka.bootstrap, topic, sink)
    groups = [f"{job.name}-{topic}", f"{job.name}-{job.name}-exchange"]
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(crash.feed, kafka.bootstrap, topic, events, rate, stop, ration)
        ration.add(30 * rate)
        workers = [Worker(job, 0)]
        await_members(kafka.bootstrap, groups[0], 1)
        ration.add(30 * rate)
        await_output(kafka.bootstrap, sink, job)
        workers += [Worker(job, 1), Worker(job, 2)]
        for group in groups:
            await_members(kafka.bootstrap, group, 3)
        ration.add(30 * rate)
        await_output(kafka.bootstrap, sink, job)
        workers[2].kill()
        workers[1].leave()
        workers[1] = Worker(job, 1)
        for group in groups:
            await_members(kafka.bootstrap, group, 2)
        ration.add(30 * rate)
        await_output(kafka.bootstrap, sink, job)
        stop.set()
        feeding.result()
    for worker in workers[:2]:
        worker.leave()
    finish(job, 2)
    check(kafka.bootstrap, topic, sink, events)


@pytest.mark.slow
def test_the_supervisor_starts_a_killed_worker_again(kafka, topic, new_topic):
    sink = new_topic()
    rate = 2_000
    events = crash.readings(rate * 120, rate)
    stop, ration = threading.Event(), crash.Ration()
    job = crash.Job(kafka.bootstrap, topic, sink)
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(crash.feed, kafka.bootstrap, topic, events, rate, stop, ration)
        ration.add(30 * rate)
        supervisor = supervised(job, 2)
        await_members(kafka.bootstrap, f"{job.name}-{topic}", 2)
        ration.add(30 * rate)
        await_output(kafka.bootstrap, sink, job)
        children = subprocess.run(
            ["pgrep", "-P", str(supervisor.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) == 2
        os.kill(int(children[0]), signal.SIGKILL)
        ration.add(30 * rate)
        await_output(kafka.bootstrap, sink, job)
        stop.set()
        feeding.result()
    supervisor.terminate()
    assert supervisor.wait(60) == 0, job.log.read_text()[-4000:]
    assert "was killed by SIGKILL; starting it again" in job.log.read_text()
    finish(job, 2)
    check(kafka.bootstrap, topic, sink, events)


def test_the_embedded_log_refuses_a_second_worker(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "from thalweg import App\n"
        f"app = App('many', broker='sqlite:///{tmp_path}/data.db')\n"
        "app.stream('numbers').to('copies')\n"
    )
    command = [sys.executable, "-m", "thalweg.cli", "run", str(script), "--workers", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "can't run on 2 workers" in ended.stderr
    assert "kafka://" in ended.stderr
