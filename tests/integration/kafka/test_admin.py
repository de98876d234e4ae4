"""`KafkaAdmin` on a real broker: declared topics, groups and their offsets, the cluster, disks and quotas."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer

pytestmark = pytest.mark.kafka


@pytest.fixture
def admin(kafka: Any) -> KafkaAdmin:
    return KafkaAdmin(kafka.bootstrap)


@pytest.fixture
def name() -> str:
    return f"admin-{uuid.uuid4().hex[:10]}"


def declared(folder: Path, name: str, form: str, **audit: Any) -> Path:
    """The same declaration in each form."""
    content = {
        "defaults": {"partitions": 3, "config": {"retention.ms": "7d"}},
        "topics": {f"{name}-events": {"config": {"compression.type": "snappy"}}, f"{name}-audit": audit},
    }
    path = folder / f"topics.{form}"
    if form == "yaml":
        import yaml

        path.write_text(yaml.safe_dump(content, sort_keys=False))
    elif form == "json":
        path.write_text(json.dumps(content))
    else:
        path.write_text(
            f'[defaults]\npartitions = 3\nconfig = {{ "retention.ms" = "7d" }}\n'
            f'[topics.{name}-events]\nconfig = {{ "compression.type" = "snappy" }}\n'
            f"[topics.{name}-audit]\n" + "".join(f"{key} = {value}\n" for key, value in audit.items())
        )
    return path


@pytest.mark.parametrize("form", ["toml", "json", "yaml"])
def test_declared_topics(admin: KafkaAdmin, name: str, tmp_path: Path, form: str) -> None:
    events, audit = f"{name}-events", f"{name}-audit"
    path = declared(tmp_path, name, form, partitions=1)
    shown = str(admin.ensure_topics(path, dry_run=True))
    assert f"+ {events}: 3 partitions, replication default, retention.ms=604800000, compression.type=snappy" in shown
    assert not admin.exists(events)
    assert len(admin.ensure_topics(path).changes) == 2
    found = admin.describe(events)
    assert (found.partitions, found.replication) == (3, 1)
    assert (found.config["retention.ms"], found.config["compression.type"]) == ("604800000", "snappy")
    assert [placed.in_sync for placed in found.placements] == [placed.replicas for placed in found.placements]
    again = admin.ensure_topics(path)
    assert (bool(again), str(again)) == (False, "the topics are as they should be")
    admin.alter_topic(events, {"compression.type": "gzip", "retention.ms": None})
    plan = admin.ensure_topics(declared(tmp_path, name, form, partitions=2))
    assert [change.action for change in plan.changes] == ["set", "set", "add partitions"]
    assert f"~ {events}: compression.type: gzip → snappy" in str(plan)
    assert admin.partitions(audit) == 2
    wrong = declared(tmp_path, name, form, partitions=1, replication=2)
    with pytest.raises(ConfigurationError, match=r"(?s)Kafka can't take any away.*replication is 1, 2 is wanted"):
        admin.ensure_topics(wrong)


def test_topics_one_by_one(admin: KafkaAdmin, name: str) -> None:
    assert admin.create_topic(name, 2, config={"cleanup.policy": "compact"}) == 2
    with pytest.raises(ConnectorError, match="already exists"):
        admin.create_topic(name)
    assert admin.create_topic(name, exist_ok=True) == 2
    with pytest.raises(ConnectorError, match="settings of topic"):
        admin.alter_topic(name, {"no.such.setting": "1"})
    with pytest.raises(ConnectorError, match=f"did you mean '{name}'"):
        admin.alter_topic(name[:-1], {"retention.ms": "1"})
    admin.delete_topic(name)
    admin.delete_topic(name)


def test_a_group_is_described_moved_and_deleted(kafka: Any, admin: KafkaAdmin, topic: str, name: str) -> None:
    with KafkaProducer(kafka.bootstrap) as producer:
        for n in range(10):
            producer.send(topic, b"x", partition=n % 2, timestamp=1_000_000 + 1000 * n)
    with KafkaConsumer(kafka.bootstrap, topic, group_id=name, client_id="reader", auto_commit=False) as consumer:
        while sum(consumer.positions().values()) < 10:
            consumer.poll(1)
        consumer.commit({(topic, 0): 2, (topic, 1): 5})
        described = admin.describe_group(name)
        assert (described.state, described.assignor) == ("STABLE", "cooperative-sticky")
        assert described.members[0].client_id == "reader"
        assert set(described.members[0].partitions) == {(topic, p) for p in range(4)}
        lags = admin.group_lag(name)
        assert [(lag.partition, lag.committed, lag.end, lag.lag, lag.member) for lag in lags] == [
            (0, 2, 5, 3, "reader"), (1, 5, 5, 0, "reader"), (2, None, 0, None, "reader"), (3, None, 0, None, "reader"),
        ]  # fmt: skip
        with pytest.raises(ConnectorError, match=r"has members \(reader\); stop them"):
            admin.reset_group(name, "earliest")
    assert admin.groups()[name] == "EMPTY"

    def moved(to: Any, **how: Any) -> list[tuple[int, int | None, int]]:
        return [(reset.partition, reset.before, reset.after) for reset in admin.reset_group(name, to, **how)]

    assert moved("earliest", dry_run=True)[:2] == [(0, 2, 0), (1, 5, 0)]
    assert admin.group_offsets(name) == {(topic, 0): 2, (topic, 1): 5}
    assert moved("latest") == [(0, 2, 5), (1, 5, 5), (2, None, 0), (3, None, 0)]
    assert moved(datetime.fromtimestamp(1003.5, UTC), topics=topic)[:2] == [(0, 5, 2), (1, 5, 2)]
    assert moved(99)[:2] == [(0, 2, 5), (1, 2, 5)]
    assert moved({(topic, 0): 1}) == [(0, 5, 1)]
    assert admin.group_offsets(name)[topic, 0] == 1
    for wrong, said in (("yesterday", "not 'yesterday'"), (datetime(2024, 1, 1), "no time zone")):
        with pytest.raises(ConfigurationError, match=said):
            admin.reset_group(name, wrong)
    admin.delete_group(name)
    assert name not in admin.groups()
    with pytest.raises(ConfigurationError, match="committed nothing"):
        admin.reset_group(name, "earliest")
    with pytest.raises(ConnectorError, match="deleting group"):
        admin.delete_group(name)


def test_the_cluster_its_disks_and_quotas(kafka: Any, admin: KafkaAdmin, topic: str, name: str) -> None:
    cluster = admin.describe_cluster()
    assert [f"{broker.host}:{broker.port}" for broker in cluster.brokers] == [kafka.bootstrap]
    assert cluster.controller == cluster.brokers[0].id
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(topic, pl.DataFrame({"value": ["x" * 1000] * 50}), format="text")
    (folder,) = admin.log_dirs()
    assert folder.broker == cluster.brokers[0].id
    assert sum(size for (named, _), size in folder.partitions.items() if named == topic) > 50_000
    assert folder.bytes > 50_000
    admin.set_quota({"user": name}, {"producer_byte_rate": 1e6, "consumer_byte_rate": 2e6})
    admin.set_quota({"user": name, "client-id": None}, {"request_percentage": 50})
    expected = [
        {"consumer_byte_rate": 2e6, "producer_byte_rate": 1e6},
        {"request_percentage": 50.0},
    ]

    def mine() -> list[dict[str, float]]:
        found = [quota for quota in admin.quotas() if quota.entity.get("user") == name]
        return [dict(sorted(quota.limits.items())) for quota in sorted(found, key=lambda quota: len(quota.entity))]

    while mine() != expected:  # the broker hears of it a moment later
        pass
    admin.set_quota({"user": name}, {"producer_byte_rate": None, "consumer_byte_rate": None})
    admin.set_quota({"user": name, "client-id": None}, {"request_percentage": None})
    while mine():
        pass
    with pytest.raises(ConnectorError, match="the broker refuses"):
        admin.set_quota({"user": name}, {"no_such_limit": 1.0})


def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(ConnectorError, match="does not answer"):
        KafkaAdmin("127.0.0.1:9", timeout=0.5).topics()
