"""Dead letters as records: the payload is the value, what is known of it is in the headers."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thalweg.records import MAX_DEAD_PAYLOAD

DEAD_SUFFIX = ".dlq"
STATE_SUFFIX = ".dlq-state"
OWN_HEADER = "header."
"""Before the names of the headers that the record had itself."""
STATES = ("open", "edited", "replayed", "discarded")
"""What has been done with a letter."""
DUE = "retry_due"
"""ms UTC: not before this time is a record tried again."""
REPLAY_OF = "replay_of"
"""On a replayed record: the dead letter that it was."""

_NUMBERS = ("partition", "offset", "timestamp", "payload_size", "attempt")
_TEXTS = ("topic", "operator", "error_class", "error_message", "details", "payload_sha256")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that could not be processed.

    `topic`, `partition`, `offset` and `timestamp` (ms UTC) are of the record that it was; `id` is the letter's own
    place in the dead-letter topic.
    """

    id: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    timestamp: int | None = None
    key: bytes | None = None
    payload: bytes | None = None
    payload_size: int | None = None
    operator: str | None = None
    error_class: str | None = None
    error_message: str | None = None
    details: str | None = None
    """JSON: a traceback, the window of a late event …"""
    attempt: int = 1
    headers: Mapping[str, bytes] = field(default_factory=dict)
    """The record's own."""
    state: str = "open"
    """One of `STATES`."""

    @property
    def is_cut(self) -> bool:
        """Whether only the beginning of the payload was kept."""
        return self.payload is not None and self.payload_size is not None and self.payload_size > len(self.payload)


def letter_of(place: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None]) -> DeadLetter:
    """Reads a letter from a record of a dead-letter topic; headers that are not understood are taken as its own."""
    known: dict[str, Any] = {}
    own: dict[str, bytes] = {}
    for name, data in headers.items():
        text = (data or b"").decode("utf-8", "replace")
        if name in _TEXTS:
            known[name] = text
        elif name in _NUMBERS:
            known[name] = _number(text)
        else:
            own[name.removeprefix(OWN_HEADER)] = data or b""
    known.pop("payload_sha256", None)
    known["attempt"] = known.get("attempt") or 1
    return DeadLetter(place, key=key, payload=value, headers=own, **known)


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record first was, whatever retry topics it has been through since."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    attempt: int = 0
    """How often it was tried so far."""
    headers: Mapping[str, bytes] = field(default_factory=dict)


def origin_of(
    topic: str, partition: int, offset: int, timestamp: int | None, headers: Mapping[str, bytes | None]
) -> Origin:
    """The origin of a record of the main topic or of one of its retry topics."""
    if DUE not in headers:
        return Origin(topic, partition, offset, timestamp, 0, {name: data or b"" for name, data in headers.items()})
    letter = letter_of("", None, None, headers)
    own = {name: data for name, data in letter.headers.items() if name != DUE}
    return Origin(
        letter.topic or topic,
        partition if letter.partition is None else letter.partition,
        offset if letter.offset is None else letter.offset,
        letter.timestamp,
        letter.attempt,
        own,
    )


def headers_for(origin: Origin, error: BaseException, operator: str, payload: bytes | None) -> dict[str, bytes]:
    """What a record that failed says of its failure."""
    trace = "".join(traceback.format_exception(error))
    return described(origin, type(error).__name__, str(error), {"traceback": trace}, operator, payload)


def described(
    origin: Origin,
    error_class: str,
    message: str,
    details: Mapping[str, Any],
    operator: str,
    payload: bytes | None,
) -> dict[str, bytes]:
    """The headers of a letter or of a record on its way to be tried again."""
    size = len(payload or b"")
    found: dict[str, Any] = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "timestamp": origin.timestamp,
        "operator": operator,
        "error_class": error_class,
        "error_message": message[:10_000],
        "details": json.dumps(details)[:100_000] if details else None,
        "attempt": origin.attempt + 1,
        "payload_size": None if payload is None else size,
        "payload_sha256": hashlib.sha256(payload or b"").hexdigest() if size > MAX_DEAD_PAYLOAD else None,
    }
    own = {OWN_HEADER + name: data for name, data in origin.headers.items()}
    return {name: str(value).encode() for name, value in found.items() if value is not None} | own
