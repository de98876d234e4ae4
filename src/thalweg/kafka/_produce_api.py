"""The producer's part of librdkafka through `ctypes`: typed functions, errors as values. No policy in here."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping
from ctypes import CDLL, POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.kafka import _oauth
from thalweg.kafka._librdkafka import Functions, address_of, load

logger = logging.getLogger("thalweg.kafka")

EVENT_DR, EVENT_LOG, EVENT_ERROR, EVENT_STATS = 0x1, 0x4, 0x8, 0x40
PRODUCER = 0
F_COPY, F_PARTITION = 2, 8
PURGE_QUEUE, PURGE_INFLIGHT = 1, 2

MSG_SIZE_TOO_LARGE = 10
QUEUE_FULL = -184
TIMED_OUT = -185
DESTROYED = -197
UNKNOWN_PARTITION = -190
UNKNOWN_TOPIC = -188
GONE_CODES = frozenset({UNKNOWN_PARTITION, UNKNOWN_TOPIC})
FATAL = -150
FENCED = -144
STATE = -172
PURGE_CODES = frozenset({-152, -151})
FENCED_CODES = frozenset({FENCED, 47, 82, 90})
"""_FENCED, INVALID_PRODUCER_EPOCH, FENCED_INSTANCE_ID, PRODUCER_FENCED."""


REFUSED_CODES = frozenset({-169, -181, 31, 53, 58})
"""_AUTHENTICATION, _SSL, CLUSTER_AUTHORIZATION_FAILED, TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
SASL_AUTHENTICATION_FAILED."""


def lets_not_in(code: int, text: str) -> bool:
    """Whether an error says that the broker refuses us, or we it: a TLS alert comes as a lost connection."""
    return code in REFUSED_CODES or "SSL routines" in text


class TopicPartitionStruct(ctypes.Structure):
    """rd_kafka_topic_partition_t"""

    _fields_ = (
        ("topic", c_char_p),
        ("partition", c_int32),
        ("offset", c_int64),
        ("metadata", c_void_p),
        ("metadata_size", c_size_t),
        ("opaque", c_void_p),
        ("err", c_int),
        ("_private", c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that librdkafka reported."""

    code: int
    name: str
    text: str
    fatal: bool = False
    retriable: bool = False
    abortable: bool = False
    """The open transaction must be aborted."""

    def __str__(self) -> str:
        return f"{self.text} ({self.name})"


_FUNCTIONS: Functions = {
    "rd_kafka_conf_new": (c_void_p, ()),
    "rd_kafka_conf_destroy": (None, (c_void_p,)),
    "rd_kafka_conf_set": (c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    "rd_kafka_conf_set_events": (None, (c_void_p, c_int)),
    "rd_kafka_new": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
    "rd_kafka_destroy": (None, (c_void_p,)),
    "rd_kafka_set_log_queue": (c_int, (c_void_p, c_void_p)),
    "rd_kafka_topic_new": (c_void_p, (c_void_p, c_char_p, c_void_p)),
    "rd_kafka_topic_destroy": (None, (c_void_p,)),
    "rd_kafka_topic_name": (c_char_p, (c_void_p,)),
    "rd_kafka_metadata": (c_int, (c_void_p, c_int, c_void_p, POINTER(c_void_p), c_int)),
    "rd_kafka_metadata_destroy": (None, (c_void_p,)),
    "rd_kafka_queue_get_main": (c_void_p, (c_void_p,)),
    "rd_kafka_queue_destroy": (None, (c_void_p,)),
    "rd_kafka_event_type": (c_int, (c_void_p,)),
    "rd_kafka_event_error": (c_int, (c_void_p,)),
    "rd_kafka_event_error_string": (c_char_p, (c_void_p,)),
    "rd_kafka_event_log": (c_int, (c_void_p, POINTER(c_char_p), POINTER(c_char_p), POINTER(c_int))),
    "rd_kafka_event_destroy": (None, (c_void_p,)),
    "rd_kafka_produce_batch": (c_int, (c_void_p, c_int32, c_int, c_void_p, c_int)),
    "rd_kafka_produce": (
        c_int,
        (c_void_p, c_int32, c_int, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p),
    ),
    "rd_kafka_produceva": (c_void_p, (c_void_p, c_void_p, c_size_t)),
    "rd_kafka_last_error": (c_int, ()),
    "rd_kafka_outq_len": (c_int, (c_void_p,)),
    "rd_kafka_flush": (c_int, (c_void_p, c_int)),
    "rd_kafka_purge": (c_int, (c_void_p, c_int)),
    "rd_kafka_fatal_error": (c_int, (c_void_p, c_char_p, c_size_t)),
    "rd_kafka_err2str": (c_char_p, (c_int,)),
    "rd_kafka_err2name": (c_char_p, (c_int,)),
    "rd_kafka_error_code": (c_int, (c_void_p,)),
    "rd_kafka_error_string": (c_char_p, (c_void_p,)),
    "rd_kafka_error_is_fatal": (c_int, (c_void_p,)),
    "rd_kafka_error_is_retriable": (c_int, (c_void_p,)),
    "rd_kafka_error_txn_requires_abort": (c_int, (c_void_p,)),
    "rd_kafka_error_destroy": (None, (c_void_p,)),
    "rd_kafka_init_transactions": (c_void_p, (c_void_p, c_int)),
    "rd_kafka_begin_transaction": (c_void_p, (c_void_p,)),
    "rd_kafka_commit_transaction": (c_void_p, (c_void_p, c_int)),
    "rd_kafka_abort_transaction": (c_void_p, (c_void_p, c_int)),
    "rd_kafka_send_offsets_to_transaction": (c_void_p, (c_void_p, c_void_p, c_void_p, c_int)),
    "rd_kafka_consumer_group_metadata_new": (c_void_p, (c_char_p,)),
    "rd_kafka_consumer_group_metadata_destroy": (None, (c_void_p,)),
}


@lru_cache(maxsize=1)
def api() -> CDLL:
    """librdkafka with the producer's functions typed; `c_void_p` results are ints or None."""
    return load(_FUNCTIONS)


def address(name: str) -> int:
    """Where a function of librdkafka lies, for kernels that call it."""
    return address_of(api(), name)


def failure(code: int, text: str | None = None) -> Failure:
    """An error code with its name and text."""
    name = api().rd_kafka_err2name(code).decode()
    return Failure(code, name, text or api().rd_kafka_err2str(code).decode(errors="replace"), fatal=code == FATAL)


def take_error(error: int | None) -> Failure | None:
    """Reads an rd_kafka_error_t* and destroys it; None for no error."""
    if not error:
        return None
    lib = api()
    code = lib.rd_kafka_error_code(error)
    result = Failure(
        code,
        lib.rd_kafka_err2name(code).decode(),
        lib.rd_kafka_error_string(error).decode(errors="replace"),
        fatal=bool(lib.rd_kafka_error_is_fatal(error)),
        retriable=bool(lib.rd_kafka_error_is_retriable(error)),
        abortable=bool(lib.rd_kafka_error_txn_requires_abort(error)),
    )
    lib.rd_kafka_error_destroy(error)
    return result


def fatal_error(handle: int) -> Failure | None:
    """What has made the client unusable, if anything has."""
    text = ctypes.create_string_buffer(512)
    code = api().rd_kafka_fatal_error(handle, text, len(text))
    if not code:
        return None
    found = failure(code, text.value.decode(errors="replace"))
    return Failure(found.code, found.name, found.text, fatal=True)


_SECRET = ("password", "secret", "jaas", "sasl.oauthbearer.config", "key.pem", "private")


def is_secret(name: str) -> bool:
    """Whether a setting of this name must not be shown."""
    return any(part in name for part in _SECRET)


def refused_setting(name: str, value: str, reason: bytes) -> ConfigurationError:
    """What librdkafka says of a setting; never a secret's value, which its own words may repeat."""
    if is_secret(name):
        return ConfigurationError(f"Kafka setting {name} (its value is not shown): librdkafka does not take it")
    return ConfigurationError(f"Kafka setting {name}={value!r}: {reason.decode(errors='replace')}")


def new_producer(config: Mapping[str, Any]) -> int:
    """A producer handle whose delivery reports, errors and logs are events on its main queue.

    Raises:
        ConfigurationError: a setting that librdkafka refuses, in its words.
    """
    lib = api()
    text = ctypes.create_string_buffer(512)
    conf = lib.rd_kafka_conf_new()
    texts, tokens = _oauth.split(config)
    for name, value in {**texts, "log.queue": "true"}.items():
        if lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), text, len(text)) != 0:
            lib.rd_kafka_conf_destroy(conf)
            raise refused_setting(name, value, text.value)
    lib.rd_kafka_conf_set_events(conf, EVENT_DR | EVENT_ERROR | EVENT_LOG)
    refresh = _oauth.prepare(conf, tokens)
    handle = lib.rd_kafka_new(PRODUCER, conf, text, len(text))
    if not handle:
        lib.rd_kafka_conf_destroy(conf)
        raise ConfigurationError(f"can't make a Kafka producer: {text.value.decode(errors='replace')}")
    lib.rd_kafka_set_log_queue(handle, None)
    _oauth.begin(handle, refresh)
    return int(handle)


def refresh_topic(handle: int, topic: int, timeout_ms: int) -> Failure | None:
    """Asks the broker for the topic's partitions, which else are known only some minutes after they were added."""
    found = c_void_p()
    code = api().rd_kafka_metadata(handle, 0, topic, ctypes.byref(found), timeout_ms)
    if code:
        return failure(code)
    api().rd_kafka_metadata_destroy(found)
    return None


def handle_event(event: int) -> Failure | None:
    """Logs an event that is no delivery report, and destroys it. Fatal ones are found by `fatal_error`.

    Returns:
        the broker's refusal of who we are, if that is what it says.
    """
    lib = api()
    kind = lib.rd_kafka_event_type(event)
    refusal = None
    if kind == EVENT_ERROR:
        code = lib.rd_kafka_event_error(event)
        found = failure(code, lib.rd_kafka_event_error_string(event).decode(errors="replace"))
        if lets_not_in(code, found.text):
            refusal = found
        elif code != FATAL:
            logger.warning("%s", found)
    elif kind == EVENT_LOG:
        facility, text_pointer, level = c_char_p(), c_char_p(), c_int()
        lib.rd_kafka_event_log(event, ctypes.byref(facility), ctypes.byref(text_pointer), ctypes.byref(level))
        text = (text_pointer.value or b"").decode(errors="replace")
        logger.log(logging.WARNING if level.value <= 4 else logging.DEBUG, "%s", text)
    lib.rd_kafka_event_destroy(event)
    return refusal


class GroupMembership:
    """An rd_kafka_consumer_group_metadata_t: which member of which generation of a group commits.

    Args:
        address: of one to take over; `close` destroys it.
    """

    def __init__(self, address: int) -> None:
        self.address = address

    @classmethod
    def of_group(cls, group: str) -> GroupMembership:
        """For offsets of a group without members: the broker checks no generation."""
        return cls(api().rd_kafka_consumer_group_metadata_new(group.encode()))

    def close(self) -> None:
        address, self.address = self.address, 0
        if address:
            api().rd_kafka_consumer_group_metadata_destroy(address)
