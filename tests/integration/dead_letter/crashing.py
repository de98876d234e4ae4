"""Run as a process: handles a topic and ends itself, as by a crash in native code, at one record.

    python crashing.py BROKERS TOPIC GROUP FILE POISON

FILE gets a line for each record that was handled.
"""

from __future__ import annotations

import os
import signal
import sys

from thalweg.kafka import KafkaRecord, RetryingConsumer, RetryPolicy


def main() -> None:
    brokers, topic, group, file, poison = sys.argv[1:]

    def handle(record: KafkaRecord) -> None:
        if record.value == poison.encode():
            os.kill(os.getpid(), signal.SIGKILL)
        with open(file, "a") as out:
            out.write(f"{record.value.decode()}\n")

    settings = {"session.timeout.ms": 1_500, "heartbeat.interval.ms": 300}
    with RetryingConsumer(
        brokers, topic, handle, group_id=group, retries=RetryPolicy(()), max_crashes=2, settings=settings
    ) as worker:
        worker.run(until_idle=0.5)


if __name__ == "__main__":
    main()
