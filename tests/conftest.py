"""One real broker for all tests that ask for it, started with the first of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine makes an example slow, not wrong: no test fails for how long it took.
settings.register_profile("thalweg", deadline=None)
settings.load_profile("thalweg")


@dataclass(frozen=True)
class SharedKafka:
    """The broker of this test run. Tests that kill brokers start a `LocalKafka` of their own."""

    bootstrap: str


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKafka]:
    """A broker that lives as long as the test run; with pytest-xdist all workers share it."""
    from thalweg.kafka.local_cluster import LocalKafka

    if "PYTEST_XDIST_WORKER" not in os.environ:
        with LocalKafka(fast_start=True) as broker:
            yield SharedKafka(broker.bootstrap)
        return
    yield SharedKafka(_shared_bootstrap(tmp_path_factory.getbasetemp().parent))


def _shared_bootstrap(folder: Path) -> str:
    """The address that the first worker wrote down. The broker ends with the process that runs the workers."""
    import fcntl

    from thalweg.kafka.local_cluster import LocalKafka

    with (folder / "kafka-bootstrap").open("a+") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        shared.seek(0)
        if not (bootstrap := shared.read()):
            broker = LocalKafka(fast_start=True, owner=os.getppid()).start()
            broker.detach()
            bootstrap = broker.bootstrap
            shared.write(bootstrap)
        return bootstrap


@pytest.fixture
def new_topic(kafka: SharedKafka) -> Callable[..., str]:
    """Makes topics: `new_topic(partitions=4, **topic_settings)` gives the fresh name."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})

    def create(partitions: int = 4, **settings: str) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        config = {key.replace("_", "."): value for key, value in settings.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
        return name

    return create


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """A fresh topic with four partitions."""
    return new_topic()


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """A schema registry (Apicurio) that lives as long as the test run, one for each worker."""
    from tests.servers.apicurio import Apicurio

    with Apicurio() as server:
        yield server.url
