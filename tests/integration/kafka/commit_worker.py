"""A worker that commits as fast as it can until it is killed; run as a process by the crash tests.

Commit n writes three records "n-0" … "n-2", and state that holds every number so far: as deltas, in full each seventh.
"""

from __future__ import annotations

import sys

from tests.integration.kafka.commit_tools import commit, committer, write
from thalweg.streams.connector import Guarantee, Recovered, StateRecord


def numbers(recovered: Recovered) -> list[int]:
    """The numbers that the recovered state holds."""
    return [int(number) for state in recovered.states for number in state.payload.split()]


def main(bootstrap: str, job: str, topic: str, output: str, guarantee: str) -> None:
    worker = committer(bootstrap, job, topic, Guarantee(guarantee), alternating=guarantee == "exactly-once")
    recovered = worker.recover([(topic, 0)])
    held = numbers(recovered)
    print("ready", flush=True)
    while True:
        number = len(held) + 1
        held.append(number)
        full = number % 7 == 0
        payload = b" ".join(b"%d" % n for n in held) if full else b" %d" % number
        rows = write(output, [f"{number}-{i}" for i in range(3)])
        if guarantee == "at-least-once":
            worker.send(rows)
        worker.commit(
            commit(
                topic,
                number,
                [] if guarantee == "at-least-once" else [rows],
                StateRecord(0, "sum", payload, full),
            )
        )
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
