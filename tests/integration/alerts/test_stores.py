"""SQLite and Redis give the same alerts, the same audit trails, the same tasks; several instances share one Redis."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.alerts.alerting import MINUTE, Clock, Kept, events, made, rule
from thalweg.alerts import AlertManager, EscalationLevel, EscalationPolicy, Message, Route
from thalweg.alerts.leases import Leases
from thalweg.alerts.store import Changes, Task, open_store
from thalweg.alerts.store.base import Conflict


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path / 'alerts.db'}"


def story(url: str) -> tuple[list[str], list[tuple[str, ...]], dict[str, int], list[str]]:
    """A long story, and what is left of it."""
    team, boss = Kept(), Kept()
    manager, clock = made(url, team=team, boss=boss)
    policy = EscalationPolicy([EscalationLevel("5m", ["boss"])], repeat=1)
    manager.add_rule(rule(notification_channels=None, escalation_policy=policy))
    manager.add_rule(rule("state", auto_resolve=True, condition="cpu > 95"))
    manager.set_route(Route(channels=["team"], group_by=["host"], group_wait="30s", repeat_interval="20m"))
    manager.silence({"host": "s"}, "1h", by="ada", reason="x")
    found, _ = manager.process_frame(events(("a", 92, 0), ("b", 97, 1), ("b", 10, 2), ("s", 99, 3), ("a", 92, 4)))
    manager.process_frame(events(("a", 92, 0), ("b", 97, 1), ("b", 10, 2), ("s", 99, 3), ("a", 92, 4)))
    clock.turn(31_000)
    manager.deliver_due()
    manager.acknowledge(found[0][1].id, "ada")
    for _ in range(8):
        clock.turn(3 * MINUTE)
        manager.deliver_due()
    manager.comment(found[0][1].id, "bob", "grüße 🚨")
    audit = [(e["what"], str(e["by"]), str(e["reason"])) for a in manager.list() for e in manager.history(a.id)]
    alerts = [f"{a.id} {a.status} {a.count} {a.revision} {a.reason}".split("(")[0] for a in manager.list()]
    audit = [(w, b, r.split("(")[0]) for w, b, r in audit]
    counts = manager.store.counts()
    said = sorted(team.take() + boss.take())
    manager.close()
    return alerts, audit, counts, said


def test_both_stores_tell_the_same_story(redis_url: str, tmp_path: Path):
    assert story(redis_url) == story(f"sqlite:///{tmp_path / 'alerts.db'}")


def test_a_change_of_what_has_changed_is_refused_whole(url: str):
    manager, clock = made(url, team=Kept())
    manager.add_rule(rule())
    [(_, alert)], _ = manager.process_frame(events(("a", 95, 0)))
    store = manager.store
    task = Task("t", "resolve", clock.now, alert.id)
    with pytest.raises(Conflict):
        store.apply(Changes(alerts=[replace(alert, revision=3)], tasks=[task], documents={"d": b"1"}))
    assert (store.task("t"), store.document("d")) == (None, None)
    store.apply(Changes(alerts=[replace(alert, revision=2)], tasks=[task], documents={"d": b"1"}))
    assert store.document("d") == b"1"
    assert store.task("t") == task
    manager.close()


def test_pages_go_on_where_the_last_one_ended(url: str):
    manager, _ = made(url, team=Kept())
    manager.add_rule(rule())
    manager.process_frame(events(*[(f"h{n}", 95, n // 4) for n in range(50)]))
    whole = [a.id for a in manager.list(limit=100)]
    paged, before = [], None
    while page := manager.list(limit=7, before=before):
        paged += [a.id for a in page]
        before = (page[-1].event_time, page[-1].id)
    assert len(whole) == 50
    assert sorted(paged) == sorted(whole)
    assert len(paged) == len(set(paged))
    assert len(manager.list(status=["triggered"], rule="cpu", severity="medium", limit=100)) == 50
    assert manager.list(severity="critical") == []
    manager.close()


def test_a_lease_keeps_others_away_until_it_ends(url: str):
    store = open_store(url)
    store.apply(Changes(tasks=[Task(f"t{n}", "notify", n, None, "lane") for n in range(3)]))
    assert [t.id for t in store.claim("one", "lane", 10, 1_000, 2)] == ["t0", "t1"]
    assert [t.id for t in store.claim("two", "lane", 10, 1_000, 5)] == ["t2"]
    assert store.claim("two", "lane", 1_009, 1_000, 5) == []
    assert [t.id for t in store.claim("two", "lane", 1_010, 1_000, 5)] == ["t0", "t1", "t2"]
    assert store.next_due("lane") == 0
    store.apply(Changes(done=["t0", "t1"], first_tasks=[Task("t2", "other", 99, None, "lane")]))
    assert store.task("t2").kind == "notify"
    store.close()


def test_two_instances_on_one_redis_tell_everything_once(redis_url: str):
    team = Kept()
    lock = threading.Lock()
    told: list[str] = []

    def note(message) -> None:
        with lock:
            told.append(message.key)

    team.look = note
    instances = []
    for _ in range(2):
        manager = AlertManager(redis_url)
        manager.add_channel("team", team)
        manager.add_rule(rule())
        instances.append(manager)
    frame = events(*[(f"h{n}", 95, n) for n in range(40)])
    threads = [threading.Thread(target=lambda m=m: m.process_frame(frame)) for m in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(manager.flush(20) for manager in instances)
    for manager in instances:
        manager.close()
    assert len(told) == 40
    assert set(Counter(told).values()) == {1}


def test_what_a_dead_instance_had_taken_is_told_by_another(redis_url: str):
    team, clock = Kept(), Clock()
    manager, _ = made(redis_url, clock, team=team)
    manager.add_rule(rule())
    manager.process_frame(events(("a", 95, 0)))
    assert len(manager.store.claim("dead", "team", clock.now, 60_000, 5)) == 1
    manager.store.close()
    other, _ = made(redis_url, clock, team=team)
    other.add_rule(rule())
    assert other.deliver_due() == 0
    clock.turn(MINUTE)
    assert other.deliver_due() == 1
    other.close()


def test_a_slow_channel_keeps_what_it_works_on(redis_url: str):
    """Twenty messages at 25 s each outlast a lease of 60 s; what is yet to be sent stays with who has taken it."""
    slow, other_team, clock = Kept(), Kept(), Clock()
    manager, _ = made(redis_url, clock, team=slow)
    other, _ = made(redis_url, clock, team=other_team)
    for one in (manager, other):
        one.add_rule(rule())
    manager.process_frame(events(*[(f"h{n}", 95, n) for n in range(20)]))

    def work(message: Message) -> None:
        clock.turn(25_000)
        other.deliver_due()

    slow.look = work
    assert manager.deliver_due() == 20
    assert other_team.messages == []
    assert len({message.key for message in slow.messages}) == 20
    for one in (manager, other):
        one.close()


def test_one_message_may_take_longer_than_a_lease(redis_url: str):
    """The channel answers only once the lease of its message has been prolonged twice."""
    import redis

    client, team = redis.Redis.from_url(redis_url), Kept()

    def prolonged(message: Message) -> None:
        seen: set[bytes] = set()
        deadline = time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < deadline:
            found = client.hget("{thalweg:alerts}:leases", f"notify:{message.key}")
            seen |= {found} - {None}
            time.sleep(0.01)
        assert len(seen) == 3

    team.look = prolonged
    manager = AlertManager(redis_url, lease="1500ms")
    manager.add_channel("team", team)
    manager.add_rule(rule())
    manager.process_frame(events(("a", 95, 0)))
    assert manager.flush(60)
    assert [message.kind for message in team.messages] == ["triggered"]
    manager.close()


def test_what_another_has_taken_meanwhile_is_left_to_it(url: str):
    """A process that stood still for longer than its leases finds its tasks gone, and tells nothing twice."""
    store, clock = open_store(url), Clock()
    leases = Leases(store, clock, 1_000)
    store.apply(Changes(tasks=[Task(f"t{n}", "notify", clock.now, None, "lane") for n in range(3)]))
    tasks = leases.take("one", "lane", 3)
    clock.turn(1_001)
    assert len(store.claim("two", "lane", clock.now, 1_000, 1)) == 1
    assert [leases.holds(task) for task in tasks] == [False, True, True]
    store.apply(Changes(done=["t1"]))
    clock.turn(999)
    assert [leases.holds(task) for task in tasks] == [False, False, True]
    leases.release(tasks)
    assert not any(leases.holds(task) for task in tasks)
    store.close()
