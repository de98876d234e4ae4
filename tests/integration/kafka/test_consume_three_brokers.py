"""Three local brokers: one is killed, reading goes on; and what a killed owner leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from thalweg.kafka.columnar import ColumnarConsumer
from thalweg.kafka.local_cluster import LocalKafka

pytestmark = pytest.mark.kafka


def test_reading_goes_on_while_a_broker_is_down() -> None:
    with LocalKafka(3, fast_start=True) as kafka:
        assert len(kafka.bootstrap.split(",")) == 3
        quiet = {"bootstrap.servers": kafka.bootstrap, "log_level": "0"}
        admin = AdminClient(quiet)
        admin.create_topics([NewTopic("t", 6, 3, config={"min.insync.replicas": "2"})])["t"].result(30)
        producer = Producer({**quiet, "acks": "all", "enable.idempotence": True})
        config = {"bootstrap.servers": kafka.bootstrap, "group.id": "g"}
        seen: list[tuple[int, int, bytes | None]] = []
        with ColumnarConsumer(config, ["t"]) as consumer:
            for step, disturb in enumerate((lambda: None, lambda: kafka.kill(1), lambda: kafka.restart(1))):
                disturb()
                for n in range(600):
                    producer.produce("t", b"%d" % (600 * step + n), partition=n % 6)
                assert producer.flush(60) == 0
                while len(seen) < 600 * (step + 1):
                    raw = consumer.poll(1000, 1000)
                    if raw is not None:
                        places = zip(raw.partition.tolist(), raw.offset.tolist(), strict=True)
                        seen += [(p, o, raw.value(i)) for i, (p, o) in enumerate(places)]
                        raw.release()
    assert sorted(int(value or b"") for *_, value in seen) == list(range(1800))
    assert sorted((p, o) for p, o, _ in seen) == [(p, o) for p in range(6) for o in range(300)]


def test_a_killed_owner_leaves_no_broker_behind() -> None:
    code = (
        "import os; from thalweg.kafka.local_cluster import LocalKafka; "
        "k = LocalKafka(fast_start=True).start(); "
        "print(k.folder, (k.folder / 'broker-0' / 'pid').read_text(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    *_, folder, pid = done.stdout.split()
    while Path(folder).exists() or _runs(int(pid)):  # the test's time limit is the judge
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
