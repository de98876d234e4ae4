"""Alerts and tasks as bytes: JSON, with a version, so that a later format can be told apart."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.store.base import Entry, Notification, Task
from thalweg.errors import StateError

_T = TypeVar("_T")

_encoder = msgspec.json.Encoder(enc_hook=str)
_alerts = msgspec.json.Decoder(Alert)
_tasks = msgspec.json.Decoder(Task)
_entries = msgspec.json.Decoder(Entry)
_notifications = msgspec.json.Decoder(Notification)


def alert_bytes(alert: Alert) -> bytes:
    """An alert as JSON. What JSON does not have (dates, bytes) becomes its text."""
    return _encoder.encode(alert)


def alert_of(body: bytes) -> Alert:
    """The alert of `alert_bytes`."""
    return _decoded(_alerts, body, "alert")


def task_bytes(task: Task) -> bytes:
    return _encoder.encode(task)


def task_of(body: bytes) -> Task:
    return _decoded(_tasks, body, "task")


def entry_bytes(entry: Entry) -> bytes:
    return _encoder.encode(entry)


def entry_of(body: bytes) -> Entry:
    return _decoded(_entries, body, "audit entry")


def notification_bytes(notification: Notification) -> bytes:
    return _encoder.encode(notification)


def notification_of(body: bytes) -> Notification:
    return _decoded(_notifications, body, "notification")


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes, what: str) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(f"the alert store holds a {what} that this version can't read: {error}") from error
