"""kill -9 of the Kafka → window → Kafka job on each state backend: the output is that of an undisturbed run."""

from __future__ import annotations

import pytest

from tests.reliability.test_kill_kafka import check
from tests.servers.redis import RedisServer


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["memory", "rocksdb", "redis"])
def test_kills_change_nothing_on_any_backend(kafka, topic, tmp_path, monkeypatch, kind):
    with RedisServer() as server:
        place = server.url if kind == "redis" else str(tmp_path / kind)
        monkeypatch.setenv("JOB_BACKEND", f"{kind} {place}")
        check(kafka.bootstrap, topic, 2)
