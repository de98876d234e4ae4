"""Alerts in Redis, for several instances: they share the work by leases, and nobody is told twice for it.

Everything that one decision changes is written by one Lua script, which Redis runs alone: all of it, or nothing where
an alert was changed by another in between. For alerts that outlive the server, run it with `appendonly yes`.

Keys, all beneath a prefix in braces, so that a cluster keeps them on one node:

======================== ====== ==================================================================
`alerts`                 hash   id → the alert (JSON); `revisions`: id → its revision
`by:time`                zset   ids by event time; `by:status:…`, `by:rule:…`, `by:severity:…` alike,
                                and `by:status:…:severity:…`
`told:<fingerprint>`     zset   ids of alerts that were not suppressed, by event time
`made`                   zset   the same of all fingerprints, by when they were made
`tasks`                  hash   id → the task; `due` and `due:<lane>`: zsets, by when they are due
`leases`                 hash   task id → until when it is taken
`notes:<alert>`          hash   key → notification; `waiting:<group>`: a set of alerts
`entries:<alert>`        list   the audit trail
`documents`              hash   name → anything; `version` counts their changes
`changed`                zset   ids by the number of their last change; `changes` counts them
======================== ====== ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.severity import OPEN, Status
from thalweg.alerts.store.base import Changes, Conflict, Entry, Notification, Task
from thalweg.alerts.store.codec import (
    alert_bytes,
    alert_of,
    entry_bytes,
    entry_of,
    notification_bytes,
    notification_of,
    task_bytes,
    task_of,
)
from thalweg.alerts.store.redis_scripts import APPLY, CLAIM, RENEW
from thalweg.errors import ConnectorError, MissingExtraError, StateError

FORMAT = b"1"
_PAGE = 500


class RedisStore:
    """See `Store`.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://…` (TLS) or `unix://…`; never shown with its password.
        prefix: what all keys begin with.

    Raises:
        ConnectorError: the server can't be reached.
        StateError: the keys were written by another version.
    """

    def __init__(self, url: str, prefix: str = "thalweg:alerts") -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError("an alert store in Redis needs: pip install 'thalweg[redis]'") from error
        self._failure = redis.RedisError
        self._shown = url.rpartition("@")[2] if "@" in url else url
        self._client: Any = redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)
        self._heard: Any = None
        self._prefix = "{" + prefix + "}:"
        self._apply = self._client.register_script(APPLY)
        self._claim = self._client.register_script(CLAIM)
        self._renew = self._client.register_script(RENEW)
        found = self._call(lambda: self._client.set(self._key("format"), FORMAT, nx=True, get=True))
        if found not in (None, FORMAT):
            raise StateError(
                f"alert store {self._shown} has format {found!r}; this version of Thalweg reads {FORMAT!r}"
            )

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _call(self, what: Callable[[], Any]) -> Any:
        try:
            return what()
        except self._failure as error:
            raise ConnectorError(f"alert store {self._shown}: {error}") from error

    def close(self) -> None:
        """Closes the connections."""
        if self._heard is not None:
            self._heard.close()
        self._client.close()

    # -- writing

    def apply(self, changes: Changes, *, synced: bool = True) -> set[str]:
        """See `Store`. When Redis writes to its disk is its own setting (`appendfsync`)."""
        if not changes.new and not any(vars(changes).values()):
            return set()
        operations = {
            "new": [
                {
                    **_indexed(new.alert),
                    "entries": [entry_bytes(e).decode() for e in new.entries],
                    "tasks": [_task(t) for t in new.tasks],
                    "notes": [_note(n) for n in new.notifications],
                }
                for new in changes.new
            ],
            "alerts": [_indexed(alert) for alert in changes.alerts],
            "entries": [[e.alert, entry_bytes(e).decode()] for e in changes.entries],
            "tasks": [_task(t) for t in changes.tasks],
            "first": [_task(t) for t in changes.first_tasks],
            "done": changes.done,
            "notes": [_note(n) for n in changes.notifications],
            "put": [[name, body.decode()] for name, body in changes.documents.items() if body is not None],
            "touched": changes.touched(),
            "drop": [name for name, body in changes.documents.items() if body is None],
        }
        body = msgspec.json.encode(operations)
        made = self._call(lambda: self._apply(keys=[self._prefix], args=[body]))
        if made[0] == b"conflict":
            raise Conflict(made[1].decode())
        return {id.decode() for id in made[1:]}

    # -- reading

    def get(self, ids: Iterable[str]) -> dict[str, Alert]:
        """See `Store`."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        bodies = self._call(lambda: self._client.hmget(self._key("alerts"), wanted))
        return {id: alert_of(body) for id, body in zip(wanted, bodies, strict=True) if body is not None}

    def open_of(self, fingerprints: Sequence[str]) -> dict[str, Alert]:
        """See `Store`."""
        found: dict[str, Alert] = {}
        for fingerprint in dict.fromkeys(fingerprints):
            ids = self._call(partial(self._client.zrevrange, self._key(f"told:{fingerprint}"), 0, 99))
            for alert in self.get(id.decode() for id in ids).values():
                if alert.status in OPEN:
                    found[fingerprint] = alert
                    break
        return found

    def fired(self, fingerprints: Sequence[str], since: int, until: int) -> list[tuple[str, int]]:
        """See `Store`."""
        pipeline = self._client.pipeline(transaction=False)
        for fingerprint in fingerprints:
            pipeline.zrangebyscore(self._key(f"told:{fingerprint}"), since, until, withscores=True)
        results = self._call(pipeline.execute) if fingerprints else []
        found = [(f, int(score)) for f, scores in zip(fingerprints, results, strict=True) for _, score in scores]
        return sorted(found, key=lambda item: item[1])

    def find(
        self,
        *,
        status: Sequence[str] = (),
        rule: str | None = None,
        severity: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """See `Store`. Reads along the narrowest index, and filters by the others."""
        indexes = [f"by:status:{one}" for one in status[:1]] if len(status) == 1 else []
        indexes += [f"by:rule:{rule}"] if rule is not None else []
        indexes += [f"by:severity:{severity}"] if severity is not None else []
        indexes += [f"by:status:{status[0]}:severity:{severity}"] if len(status) == 1 and severity is not None else []
        index = self._narrowest(indexes or ["by:time"])
        found: list[Alert] = []
        offset, top = 0, "+inf" if before is None else str(before[0])
        while len(found) < limit:
            page = partial(self._client.zrevrangebyscore, self._key(index), top, "-inf", start=offset, num=_PAGE)
            ids = self._call(page)
            if not ids:
                break
            offset += len(ids)
            found += [
                alert
                for alert in self.get(id.decode() for id in ids).values()
                if (not status or alert.status in status)
                and (rule is None or alert.rule == rule)
                and (severity is None or alert.severity == severity)
                and (before is None or (alert.event_time, alert.id) < before)
            ]
        return found[:limit]

    def _narrowest(self, indexes: Sequence[str]) -> str:
        if len(indexes) == 1:
            return indexes[0]
        pipeline = self._client.pipeline(transaction=False)
        for index in indexes:
            pipeline.zcard(self._key(index))
        sizes: list[int] = self._call(pipeline.execute)
        return min(zip(sizes, indexes, strict=True))[1]

    def created_since(self, since: int) -> int:
        """See `Store`."""
        return int(self._call(lambda: self._client.zcount(self._key("made"), since, "+inf")))

    def counts(self) -> dict[str, int]:
        """See `Store`."""
        pipeline = self._client.pipeline(transaction=False)
        for status in Status:
            pipeline.zcard(self._key(f"by:status:{status}"))
        counts = zip(Status, self._call(pipeline.execute), strict=True)
        return {str(status): number for status, number in counts if number}

    def entries(self, alert: str) -> list[Entry]:
        """See `Store`."""
        return [
            entry_of(body) for body in self._call(lambda: self._client.lrange(self._key(f"entries:{alert}"), 0, -1))
        ]

    def notifications(
        self, alert: str | None = None, *, group: str | None = None, limit: int = 10_000
    ) -> list[Notification]:
        """See `Store`."""
        if alert is not None:
            alerts = [alert]
        elif group is not None:
            members = self._call(lambda: self._client.smembers(self._key(f"waiting:{group}")))
            alerts = sorted(member.decode() for member in members)
        else:
            found = self._call(lambda: self._client.zrevrange(self._key("by:time"), 0, limit - 1))
            alerts = [id.decode() for id in found]
        notes = self.notifications_of(alerts)
        return [n for n in notes if group is None or (n.group == group and n.state == "waiting")][:limit]

    def notifications_of(self, alerts: Sequence[str]) -> list[Notification]:
        """See `Store`."""
        pipeline = self._client.pipeline(transaction=False)
        for id in alerts:
            pipeline.hvals(self._key(f"notes:{id}"))
        bodies = [body for values in (self._call(pipeline.execute) if alerts else []) for body in values]
        return sorted((notification_of(body) for body in bodies), key=lambda note: note.key)

    # -- tasks

    def claim(self, owner: str, lane: str | None, now: int, lease: int, limit: int) -> list[Task]:
        """See `Store`."""
        index = "due" if lane is None else f"due:{lane}"
        bodies = self._call(lambda: self._claim(keys=[self._prefix], args=[index, now, now + lease, limit]))
        return [task_of(body) for body in bodies]

    def renew(self, leases: Mapping[str, int], until: int) -> set[str]:
        """See `Store`."""
        given = [part for id, old in leases.items() for part in (id, old)]
        found = self._call(lambda: self._renew(keys=[self._prefix], args=[until, *given]))
        return {id.decode() for id in found}

    def task(self, id: str) -> Task | None:
        """See `Store`."""
        body = self._call(lambda: self._client.hget(self._key("tasks"), id))
        return None if body is None else task_of(body)

    def tasks(self, kind: str, alerts: Iterable[str] | None = None) -> list[Task]:
        """See `Store`. The tasks of alerts have ids made of kind and alert, so that they need no index."""
        if alerts is not None:
            ids = [f"{kind}:{alert}" for alert in alerts]
            bodies = self._call(lambda: self._client.hmget(self._key("tasks"), ids)) if ids else []
            return [task_of(body) for body in bodies if body is not None]
        found = self._call(lambda: list(self._client.hscan_iter(self._key("tasks"), match=f"{kind}:*", count=1000)))
        return [task_of(body) for _, body in found]

    def next_due(self, lane: str | None = None) -> int | None:
        """See `Store`."""
        index = "due" if lane is None else f"due:{lane}"
        first = self._call(lambda: self._client.zrange(self._key(index), 0, 0, withscores=True))
        return int(first[0][1]) if first else None

    def recover(self) -> None:
        """See `Store`. Other instances may be at work: what a dead one had taken is free when its lease ends."""

    # -- documents

    def document(self, name: str) -> bytes | None:
        """See `Store`."""
        body: bytes | None = self._call(lambda: self._client.hget(self._key("documents"), name))
        return body

    def documents(self, prefix: str) -> dict[str, bytes]:
        """See `Store`."""
        escaped = "".join(f"\\{c}" if c in "*?[]\\^" else c for c in prefix)
        scan = self._client.hscan_iter
        found = self._call(lambda: list(scan(self._key("documents"), match=f"{escaped}*", count=1000)))
        return {name.decode(): body for name, body in sorted(found)}

    def version(self) -> int:
        """See `Store`."""
        return int(self._call(lambda: self._client.get(self._key("version"))) or 0)

    # -- changes

    def changed(self, since: int, limit: int) -> list[tuple[int, str]]:
        """See `Store`."""
        read = partial(
            self._client.zrangebyscore, self._key("changed"), f"({since}", "+inf", start=0, num=limit, withscores=True
        )
        return [(int(number), id.decode()) for id, number in self._call(read)]

    def last_change(self) -> int:
        """See `Store`."""
        return int(self._call(lambda: self._client.get(self._key("changes"))) or 0)

    def wait(self, since: int, timeout: float) -> bool:
        """See `Store`. Redis says so; it is asked in between, too, as a message can get lost with a connection."""
        if self._heard is None:
            heard = self._client.pubsub(ignore_subscribe_messages=True)
            self._call(lambda: heard.subscribe(self._key("news")))
            self._heard = heard
        heard, quiet = self._heard, self.last_change() <= since
        try:
            said = self._call(lambda: heard.get_message(timeout=timeout if quiet else 0))
            while said is not None:  # one look answers all that was said so far
                said = self._call(lambda: heard.get_message(timeout=0))
        except ConnectorError:
            self._heard = None
            raise
        return not quiet or self.last_change() > since


def _indexed(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "rule": alert.rule,
        "severity": str(alert.severity),
        "status": str(alert.status),
        "fingerprint": alert.fingerprint,
        "time": alert.event_time,
        "created": alert.created,
        "revision": alert.revision,
        "body": alert_bytes(alert).decode(),
    }


def _task(task: Task) -> list[Any]:
    return [task.id, task.lane, task.due, task_bytes(task).decode()]


def _note(note: Notification) -> list[Any]:
    waiting = note.group if note.state == "waiting" else ""
    return [note.alert, note.key, notification_bytes(note).decode(), waiting or "", note.group or ""]
