"""Run as a process: replays a topic's dead letters, and is killed -9 when some of them are with the broker.

python killed_replay.py BROKERS TOPIC SENT
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from thalweg.kafka import DeadLetterQueue, KafkaProducer


def main() -> None:
    brokers, topic, sent = sys.argv[1:]
    left = int(sent)
    send = KafkaProducer.send

    def counted(self: KafkaProducer, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        if not left:
            self.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return send(self, *arguments, **named)

    KafkaProducer.send = counted  # type: ignore[method-assign]
    with DeadLetterQueue(brokers, topic) as queue:
        queue.replay()


if __name__ == "__main__":
    main()
