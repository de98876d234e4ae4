"""`make bench-kafka`: Thalweg's Kafka clients against `confluent_kafka` and Java's tool: one broker, machine and run.

    python benchmarks/kafka_clients.py [--quick] [--minutes M] [--rounds N] [--only PART,…]

The parts are consume, produce, keyed, transactions and avro.

Writes `benchmarks/results/kafka.json` and `kafka.md`. Each contender runs alone in a process of its own; they take
turns, so that a slow minute of the machine hits all; the median counts. Every case is measured once, then again and
again as long as the time lasts. Same settings for all producers: acks all, idempotent, 1 MB batches, 5 ms linger, 256
MiB of buffer, 4 partitions; payloads are JSON texts from one file, each record's chosen by chance, as Java's tool does;
the two Python clients get them as Polars frames of 10,000 rows. The broker shares the cores: read ratios, and CPU per
record, not absolute rates.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.kafka_report import markdown  # noqa: E402
from benchmarks.kafka_worker import PRODUCERS, Task  # noqa: E402
from benchmarks.spine.harness import machine, say  # noqa: E402
from thalweg.kafka._local_install import KAFKA_VERSION, find_runtime  # noqa: E402
from thalweg.kafka.admin import KafkaAdmin  # noqa: E402
from thalweg.kafka.local_cluster import LocalKafka  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SIZES = {100: 1_500_000, 1_000: 300_000, 10_000: 40_000}
"""Bytes of a payload to records in a run."""
PAYLOADS = 10_000_000
"""Bytes of all distinct payloads. A thousand of 100 bytes would come again within the 32 KB that gzip looks back."""
RUN_SECONDS = 120
"""After which a contender counts as stuck. On a quiet machine a run takes 2 to 6 seconds."""
CODECS = ("none", "snappy", "lz4", "zstd", "gzip")
PARTITIONS = 4
CONSUMERS = ("columns", "confluent", "frames", "c_queue", "confluent_tuned")
JAVA = "kafka-producer-perf-test"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="at most so many runs of each")
    parser.add_argument("--minutes", type=float, default=10.5, help="no round begins after so long")
    parser.add_argument("--only", default="consume,produce,keyed,transactions,avro", help="parts, by comma")
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the records")
    parser.add_argument("--output", default="kafka", help="name of the result files in benchmarks/results")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    return options


def payload_file(folder: Path, size: int) -> Path:
    """`PAYLOADS` of JSON texts of this many bytes, of words that repeat as words do; made once."""
    path = folder / f"payloads-{size}"
    if path.exists():
        return path
    rng = random.Random(size)
    words = [f"w{rng.randrange(3000)}" for _ in range(2000)]
    lines = []
    for n in range(PAYLOADS // size):
        head = f'{{"sensor_id":"s{n % 10_000:04}","ts":{1_700_000_000_000 + n},"value":{rng.random():.4f},"note":"'
        note = ""
        while len(head) + len(note) + 2 < size:
            note += rng.choice(words) + " "
        lines.append((head + note)[: size - 2] + '"}')
    path.write_text("\n".join(lines) + "\n")
    return path


class Bench:
    """Runs contenders against one broker."""

    def __init__(self, brokers: str, folder: Path) -> None:
        self.brokers = brokers
        self.folder = folder
        self.admin = KafkaAdmin(brokers, timeout=30)

    def topic(self) -> str:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        self.admin.create_topic(name, PARTITIONS)
        return name

    def worker(self, task: Task) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.kafka_worker", json.dumps(asdict(task))]
        output, memory, _ = self._run(command)
        return json.loads(output.splitlines()[-1]) | {"memory_mib": memory}

    def java(self, task: Task) -> dict[str, float]:
        """Kafka's own tool. Its rate leaves out the start of the JVM; its CPU does not."""
        properties = [
            f"bootstrap.servers={task.brokers}", "acks=all", "enable.idempotence=true", "linger.ms=5",
            "batch.size=1000000", "buffer.memory=268435456", f"compression.type={task.codec}",
        ]  # fmt: skip
        options = ["--topic", task.topic, "--num-records", str(task.records), "--throughput", "-1"]
        options += ["--payload-file", task.payloads]
        if task.transactional:
            options += ["--transactional-id", task.topic, "--transaction-duration-ms", "1000"]
        command = find_runtime(KAFKA_VERSION).command(
            f"perf-{uuid.uuid4().hex[:6]}", self.folder, ["-Xmx1g"], "org.apache.kafka.tools.ProducerPerformance",
            [*options, "--producer-props", *properties],
        )  # fmt: skip
        output, memory, cpu = self._run(command)
        rate = float(re.findall(r"([\d.]+) records/sec", output)[-1])
        return {"rate": rate, "cpu_us": cpu / task.records * 1e6, "memory_mib": memory}

    def produce(self, name: str, case: Case) -> dict[str, float]:
        """One producer into a fresh topic."""
        payloads = str(payload_file(self.folder, case.bytes))
        task = Task(
            *("produce", name, self.brokers, self.topic(), case.records, payloads, case.codec),
            transactional=case.transactional,
            keyed=case.keyed,
        )
        try:
            return self.java(task) if name == JAVA else self.worker(task)
        finally:
            self.admin.delete_topic(task.topic)

    def load(self, size: int, records: int, codec: str) -> str:
        """A topic full of records."""
        topic, payloads = self.topic(), str(payload_file(self.folder, size))
        self.worker(Task("produce", "send_frame", self.brokers, topic, records - 1, payloads, codec))
        return topic

    def _run(self, command: list[str]) -> tuple[str, float, float]:
        """Output, peak memory in MiB, and CPU seconds.

        Raises:
            RuntimeError: it failed, or was still running after `RUN_SECONDS`; with its last words.
        """
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors)
            watch = threading.Timer(RUN_SECONDS, process.kill)
            watch.start()
            memory = PeakMemory(process.pid)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:
                watch.cancel()
                peak = memory.end()
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            if process.returncode:
                errors.seek(0)
                ended = "stuck" if process.returncode == -signal.SIGKILL else f"exit code {process.returncode}"
                raise RuntimeError(f"{command[1:4]} failed ({ended}):\n{errors.read()[-3000:]}")
            return output.read(), peak, usage.ru_utime + usage.ru_stime


class PeakMemory(threading.Thread):
    """The most memory that a process has held, looked at ten times a second (Linux; elsewhere 0).

    What `wait4` says is no use here: a child that was forked begins with its parent's peak.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._peak = 0.0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.1):
            with suppress(OSError):  # it has just ended, or this is no Linux
                found = re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text())
                self._peak = int(found[1]) / 2**10 if found else self._peak

    def end(self) -> float:
        """MiB."""
        self._over.set()
        self.join()
        return self._peak


@dataclass
class Case:
    """Contenders on one workload, and what they gave so far."""

    side: str
    bytes: int
    records: int
    codec: str
    transactional: bool = False
    keyed: bool = False
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        how = " in transactions" if self.transactional else " with keys" if self.keyed else ""
        return f"{self.side} {self.bytes:,} B {self.codec}{how}"

    @property
    def contenders(self) -> tuple[str, ...]:
        """Java's tool has no keys."""
        return CONSUMERS if self.side == "consume" else (*PRODUCERS, *(() if self.keyed else (JAVA,)))

    def measure(self, bench: Bench) -> None:
        """One run of each contender. The order turns with each round, so that none is always first."""
        names = self.contenders
        done = len(next(iter(self.runs.values()), []))
        topic = bench.load(self.bytes, self.records, self.codec) if self.side == "consume" else ""
        for name in (*names[done % len(names) :], *names[: done % len(names)]):
            self.runs.setdefault(name, []).append(self._run(bench, name, topic))
        if topic:
            bench.admin.delete_topic(topic)
            self._check()
        say(f"{self}: " + ", ".join(f"{name} {self.runs[name][-1]['rate'] / 1e6:.2f} M/s" for name in names))

    def _run(self, bench: Bench, name: str, topic: str) -> dict[str, float]:
        try:
            return self._once(bench, name, topic)
        except RuntimeError as error:  # a slow machine may let a run miss its time: once is forgiven
            say(f"{self}: {name} runs again: {error}")
            return self._once(bench, name, topic)

    def _once(self, bench: Bench, name: str, topic: str) -> dict[str, float]:
        if self.side == "consume":
            return bench.worker(Task("consume", name, bench.brokers, topic, self.records))
        return bench.produce(name, self)

    def _check(self) -> None:
        if len({run["bytes"] for name, runs in self.runs.items() if name != "c_queue" for run in runs}) != 1:
            raise RuntimeError("the consumers did not see the same payloads")

    def result(self) -> dict[str, Any]:
        best = {name: median(runs) for name, runs in self.runs.items()}
        rounds = len(next(iter(self.runs.values())))
        own: dict[str, Any] = {"bytes": self.bytes, "records": self.records, "codec": self.codec, "rounds": rounds}
        if self.side == "consume":
            return own | {"consumers": best}
        return own | {"transactional": self.transactional, "keyed": self.keyed, "producers": best}


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def cases(parts: list[str], quick: bool) -> list[Case]:
    """Each size uncompressed, each codec at 100 B; transactions and keys uncompressed."""
    return [
        Case(
            *("consume" if part == "consume" else "produce", size, records // (4 if quick else 1), codec),
            transactional=part == "transactions",
            keyed=part == "keyed",
        )
        for part in ("consume", "produce", "keyed", "transactions")
        if part in parts
        for size, records in SIZES.items()
        for codec in (CODECS if size == 100 and part in ("consume", "produce") else ("none",))
    ]


def measure_all(bench: Bench, todo: list[Case], rounds: int, until: float) -> None:
    """Every case once, then again as often as there is time."""
    for number in range(rounds):
        for case in todo:
            if number and time.monotonic() > until:
                return
            case.measure(bench)


def run_avro(quick: bool) -> list[dict[str, Any]]:
    from benchmarks.avro_decode import SHAPES, measure

    say("Avro …")
    return [{"shape": name, **measure(name, 20_000 if quick else 100_000, 0.3 if quick else 1.0)} for name in SHAPES]


def main() -> None:
    options = arguments()
    parts = options.only.split(",")
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    started = time.monotonic()
    todo = cases(parts, options.quick)
    if "avro" in parts:
        result["avro"] = run_avro(options.quick)
    if todo:
        with tempfile.TemporaryDirectory() as folder, LocalKafka() as kafka:
            bench = Bench(kafka.bootstrap, Path(folder))
            measure_all(bench, todo, options.rounds, started + options.minutes * 60)
    result["consume"] = [case.result() for case in todo if case.side == "consume"]
    result["produce"] = [case.result() for case in todo if case.side == "produce"]
    result["seconds"] = round(time.monotonic() - started)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.output}.json").write_text(json.dumps(result, indent=2) + "\n")
    text = markdown(result)
    (RESULTS / f"{options.output}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
