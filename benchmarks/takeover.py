"""How soon a job with much state is back after kill -9: in the same slot, and when another worker takes over.

python benchmarks/takeover.py [--keys 1000000]      writes benchmarks/results/takeover.json

Each key has an open window. Events keep coming at 1,000 a second; "back" is when the committed offsets of all source
partitions have moved past where they were at the kill. Also: CPU per event of two workers against one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reliability import crash  # noqa: E402

from benchmarks.spine.harness import machine  # noqa: E402
from thalweg.kafka.local_cluster import LocalKafka  # noqa: E402

PATIENCE = 240.0
START = 1_700_000_000_000

JOB = """
import os
from thalweg import App
from thalweg.analytics import count, max_
from thalweg.streams import TumblingWindow
app = App(os.environ["JOB_NAME"], broker=os.environ["JOB_BROKER"])
events = app.stream("events", schema={"key": str, "ts": int}, timestamp="ts", max_ahead=None)
events.key_by("key").window(TumblingWindow("1d")).aggregate(n=count(), last=max_("ts")).to("windows")
app.run()
"""


class Feed:
    """Writes each key once, then goes on at 1,000 events a second until it is stopped."""

    def __init__(self, bootstrap: str, keys: int) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
        self._keys = keys
        self._stop = threading.Event()
        self.sent = 0
        while self.sent < keys:
            self._send()
        self._producer.flush(60)
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        body = json.dumps({"key": f"k{self.sent % self._keys:07d}", "ts": START + self.sent % 1_000_000})
        while True:
            try:
                self._producer.produce("events", body, partition=self.sent % crash.PARTITIONS)
                break
            except BufferError:
                self._producer.poll(0.05)
        self.sent += 1

    def _go_on(self) -> None:
        while not self._stop.wait(0.02):
            for _ in range(20):
                self._send()
            self._producer.poll(0)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(60)


class Job:
    """Workers of one job."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.group = f"{name}-events"
        self._environment = {**os.environ, "JOB_NAME": name, "JOB_BROKER": f"kafka://{bootstrap}"}
        self._probe = Consumer({"bootstrap.servers": bootstrap, "group.id": self.group})  # asks, and never joins
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, slot: int, workers: int) -> None:
        more = {"THALWEG_SLOT": str(slot), "THALWEG_WORKERS": str(workers)}
        self.workers[slot] = subprocess.Popen([sys.executable, "-c", JOB], env={**self._environment, **more}, cwd=ROOT)

    def kill(self, slot: int) -> None:
        worker = self.workers.pop(slot)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def end(self) -> None:
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            worker.wait(60)

    def cpu(self) -> float:
        """Seconds of CPU of all workers so far."""
        return sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in self.workers.values())

    def offsets(self) -> dict[int, int]:
        """The committed offset of each source partition; none while the group's coordinator is still coming up."""
        wanted = [TopicPartition("events", p) for p in range(crash.PARTITIONS)]
        try:
            return {tp.partition: tp.offset for tp in self._probe.committed(wanted, timeout=30)}
        except KafkaException as error:
            if error.args[0].retriable() or error.args[0].name() == "NOT_COORDINATOR":
                return {}
            raise

    def wait_beyond(self, before: dict[int, int]) -> float:
        """Seconds until all partitions have moved."""
        started = time.monotonic()
        while True:
            now = self.offsets()
            if all(now.get(p, -1) > before.get(p, -1) for p in range(crash.PARTITIONS)):
                return time.monotonic() - started
            if time.monotonic() - started > PATIENCE:
                raise RuntimeError(f"the job is not back after {PATIENCE:.0f} s: {before} → {now}")
            time.sleep(0.02)


def measure(bootstrap: str, name: str, workers: int, keys: int) -> dict[str, float]:
    """Brings the state up, then kills the last worker and starts it again (one worker) or not (several)."""
    job = Job(bootstrap, name)
    try:
        return _measured(job, workers, keys)
    finally:
        job.end()


def _measured(job: Job, workers: int, keys: int) -> dict[str, float]:
    for slot in range(workers):
        job.start(slot, workers)
    share = keys // crash.PARTITIONS
    job.wait_beyond(dict.fromkeys(range(crash.PARTITIONS), share))
    cpu = job.cpu() / sum(job.offsets().values()) * 1e6
    time.sleep(2)
    before = job.offsets()
    job.kill(workers - 1)
    if workers == 1:
        job.start(0, 1)
    back = job.wait_beyond(before)
    return {"back_after_seconds": round(back, 2), "cpu_us_per_event": round(cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    with LocalKafka() as kafka:
        crash.create_topics(kafka.bootstrap, "events", "windows")
        feed = Feed(kafka.bootstrap, keys)
        result = {
            "machine": machine(),
            "keys": keys,
            "load_average": os.getloadavg()[0],
            "same_slot": measure(kafka.bootstrap, "alone", 1, keys),
            "takeover": measure(kafka.bootstrap, "pair", 2, keys),
        }
        feed.stop()
    (ROOT / "benchmarks/results/takeover.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
