"""An abort while records are on their way: the next transaction of the same producer goes through."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.integration.kafka.commit_tools import read
from thalweg.kafka import KafkaProducer

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("rows", [1, 40, 20_000])
def test_the_transaction_after_an_abort_goes_through(kafka: Any, topic: str, rows: int) -> None:
    """Purged records have used up sequence numbers: unless the client is told, the broker misses them ever after."""
    with KafkaProducer(kafka.bootstrap, transactional_id=f"tx-{topic}") as producer:
        for attempt in range(12):
            broken = attempt % 3 != 2
            try:
                with producer.transaction():
                    producer.send_frame(topic, pl.DataFrame({"n": range(rows)}))
                    if attempt % 2:
                        producer.send(topic, b"-1")
                    if broken:
                        raise RuntimeError("broken")
            except RuntimeError:
                assert broken
    assert len(read(kafka.bootstrap, topic)) == 4 * rows + 2


def test_aborts_just_after_commits(kafka: Any, topic: str) -> None:
    """The coordinator still writes a commit's markers when the next transaction begins, and is aborted at once."""
    with KafkaProducer(kafka.bootstrap, transactional_id=f"tx-{topic}") as producer:
        for attempt in range(40):
            try:
                with producer.transaction():
                    producer.send_frame(topic, pl.DataFrame({"n": [attempt]}))
                    if attempt % 2:
                        raise RuntimeError("broken")
            except RuntimeError:
                assert attempt % 2
    assert len(read(kafka.bootstrap, topic)) == 20
