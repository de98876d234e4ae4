"""The consumer's part of librdkafka through `ctypes`: typed functions and plain Python values. No policy in here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_void_p,
)
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.kafka import _oauth
from thalweg.kafka._librdkafka import Functions, address_of, load
from thalweg.kafka._produce_api import TopicPartitionStruct, refused_setting

TopicPartition = tuple[str, int]

CONSUMER = 1
PARTITION_EOF = -191
ASSIGN, REVOKE = -175, -174
OFFSET_BEGINNING, OFFSET_END, OFFSET_STORED, OFFSET_INVALID = -2, -1, -1000, -1001


class PartitionListStruct(Structure):
    """rd_kafka_topic_partition_list_t"""

    _fields_ = (("cnt", c_int), ("size", c_int), ("elems", POINTER(TopicPartitionStruct)))


class _BrokerMetadata(Structure):
    _fields_ = (("id", c_int32), ("host", c_char_p), ("port", c_int))


class _PartitionMetadata(Structure):
    _fields_ = (
        ("id", c_int32),
        ("err", c_int),
        ("leader", c_int32),
        ("replica_cnt", c_int),
        ("replicas", c_void_p),
        ("isr_cnt", c_int),
        ("isrs", c_void_p),
    )


class _TopicMetadata(Structure):
    _fields_ = (
        ("topic", c_char_p),
        ("partition_cnt", c_int),
        ("partitions", POINTER(_PartitionMetadata)),
        ("err", c_int),
    )


class _Metadata(Structure):
    _fields_ = (
        ("broker_cnt", c_int),
        ("brokers", POINTER(_BrokerMetadata)),
        ("topic_cnt", c_int),
        ("topics", POINTER(_TopicMetadata)),
        ("orig_broker_id", c_int32),
        ("orig_broker_name", c_char_p),
    )


RebalanceCallback = CFUNCTYPE(None, c_void_p, c_int, POINTER(PartitionListStruct), c_void_p)
ErrorCallback = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)
LogCallback = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)
StatsCallback = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t, c_void_p)
OffsetCommitCallback = CFUNCTYPE(None, c_void_p, c_int, POINTER(PartitionListStruct), c_void_p)

_LIST = POINTER(PartitionListStruct)
_FUNCTIONS: Functions = {
    "rd_kafka_conf_new": (c_void_p, ()),
    "rd_kafka_conf_destroy": (None, (c_void_p,)),
    "rd_kafka_conf_set": (c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    "rd_kafka_conf_set_rebalance_cb": (None, (c_void_p, RebalanceCallback)),
    "rd_kafka_conf_set_error_cb": (None, (c_void_p, ErrorCallback)),
    "rd_kafka_conf_set_log_cb": (None, (c_void_p, LogCallback)),
    "rd_kafka_conf_set_stats_cb": (None, (c_void_p, StatsCallback)),
    "rd_kafka_conf_set_offset_commit_cb": (None, (c_void_p, OffsetCommitCallback)),
    "rd_kafka_new": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
    "rd_kafka_destroy": (None, (c_void_p,)),
    "rd_kafka_set_log_queue": (c_int, (c_void_p, c_void_p)),
    "rd_kafka_poll_set_consumer": (c_int, (c_void_p,)),
    "rd_kafka_queue_get_consumer": (c_void_p, (c_void_p,)),
    "rd_kafka_queue_destroy": (None, (c_void_p,)),
    "rd_kafka_queue_io_event_enable": (None, (c_void_p, c_int, c_char_p, c_size_t)),
    "rd_kafka_consume_batch_queue": (c_ssize_t, (c_void_p, c_int, c_void_p, c_size_t)),
    "rd_kafka_message_destroy": (None, (c_void_p,)),
    "rd_kafka_message_timestamp": (c_int64, (c_void_p, c_void_p)),
    "rd_kafka_message_errstr": (c_char_p, (c_void_p,)),
    "rd_kafka_topic_name": (c_char_p, (c_void_p,)),
    "rd_kafka_last_error": (c_int, ()),
    "rd_kafka_err2str": (c_char_p, (c_int,)),
    "rd_kafka_fatal_error": (c_int, (c_void_p, c_char_p, c_size_t)),
    "rd_kafka_subscribe": (c_int, (c_void_p, _LIST)),
    "rd_kafka_unsubscribe": (c_int, (c_void_p,)),
    "rd_kafka_assign": (c_int, (c_void_p, _LIST)),
    "rd_kafka_incremental_assign": (c_void_p, (c_void_p, _LIST)),
    "rd_kafka_incremental_unassign": (c_void_p, (c_void_p, _LIST)),
    "rd_kafka_assignment": (c_int, (c_void_p, POINTER(_LIST))),
    "rd_kafka_assignment_lost": (c_int, (c_void_p,)),
    "rd_kafka_rebalance_protocol": (c_char_p, (c_void_p,)),
    "rd_kafka_seek_partitions": (c_void_p, (c_void_p, _LIST, c_int)),
    "rd_kafka_pause_partitions": (c_int, (c_void_p, _LIST)),
    "rd_kafka_resume_partitions": (c_int, (c_void_p, _LIST)),
    "rd_kafka_position": (c_int, (c_void_p, _LIST)),
    "rd_kafka_committed": (c_int, (c_void_p, _LIST, c_int)),
    "rd_kafka_commit": (c_int, (c_void_p, _LIST, c_int)),
    "rd_kafka_offsets_for_times": (c_int, (c_void_p, _LIST, c_int)),
    "rd_kafka_get_watermark_offsets": (c_int, (c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64))),
    "rd_kafka_query_watermark_offsets": (
        c_int,
        (c_void_p, c_char_p, c_int32, POINTER(c_int64), POINTER(c_int64), c_int),
    ),
    "rd_kafka_consumer_group_metadata": (c_void_p, (c_void_p,)),
    "rd_kafka_consumer_group_metadata_read": (c_void_p, (POINTER(c_void_p), c_char_p, c_size_t)),
    "rd_kafka_consumer_close": (c_int, (c_void_p,)),
    "rd_kafka_metadata": (c_int, (c_void_p, c_int, c_void_p, POINTER(POINTER(_Metadata)), c_int)),
    "rd_kafka_metadata_destroy": (None, (POINTER(_Metadata),)),
    "rd_kafka_topic_partition_list_new": (_LIST, (c_int,)),
    "rd_kafka_topic_partition_list_destroy": (None, (_LIST,)),
    "rd_kafka_topic_partition_list_add": (POINTER(TopicPartitionStruct), (_LIST, c_char_p, c_int32)),
}


@lru_cache(maxsize=1)
def api() -> CDLL:
    """librdkafka with the consumer's functions typed; `c_void_p` results are ints or None.

    Raises:
        LibraryUnusable: see `_librdkafka`.
    """
    return load(_FUNCTIONS)


def address(name: str) -> int:
    """Where a function of librdkafka lies, for kernels that call it."""
    return address_of(api(), name)


class PartitionList:
    """An rd_kafka_topic_partition_list_t that frees itself at the end of its `with` block.

    Args:
        partitions: to list; a mapping gives the offset of each, or the offset and its metadata.
    """

    def __init__(self, partitions: Iterable[TopicPartition] | Mapping[TopicPartition, int | tuple[int, str]]) -> None:
        lib = api()
        wanted = dict(partitions) if isinstance(partitions, Mapping) else dict.fromkeys(partitions, OFFSET_INVALID)
        self.pointer: Any = lib.rd_kafka_topic_partition_list_new(max(1, len(wanted)))
        self._metadata: list[tuple[Any, Any]] = []
        for (topic, partition), value in wanted.items():
            row = lib.rd_kafka_topic_partition_list_add(self.pointer, topic.encode(), partition).contents
            row.offset = value[0] if isinstance(value, tuple) else value
            if isinstance(value, tuple):
                data = value[1].encode()
                text = ctypes.create_string_buffer(data, max(1, len(data)))
                row.metadata, row.metadata_size = ctypes.addressof(text), len(data)
                self._metadata.append((row, text))

    def __enter__(self) -> PartitionList:
        return self

    def __exit__(self, *exc: object) -> None:
        for row, _ in self._metadata:
            row.metadata, row.metadata_size = None, 0  # the list would free it, but this memory is Python's
        api().rd_kafka_topic_partition_list_destroy(self.pointer)

    def rows(self) -> list[TopicPartitionStruct]:
        """The structs; valid inside the `with` block."""
        return list_rows(self.pointer)


def list_rows(pointer: Any) -> list[TopicPartitionStruct]:
    """The structs of a list; valid as long as it is."""
    if not pointer:
        return []
    return [pointer.contents.elems[i] for i in range(pointer.contents.cnt)]


def partitions_in(pointer: Any) -> list[TopicPartition]:
    """What a list names."""
    return [(row.topic.decode(), row.partition) for row in list_rows(pointer)]


def topics_of(handle: int, timeout_ms: int) -> tuple[int, dict[str, int]]:
    """Error code (0: none) and the partition count of every topic in the cluster."""
    lib = api()
    pointer = POINTER(_Metadata)()
    code = lib.rd_kafka_metadata(handle, 1, None, ctypes.byref(pointer), timeout_ms)
    if code:
        return code, {}
    data = pointer.contents
    found = {data.topics[i].topic.decode(): data.topics[i].partition_cnt for i in range(data.topic_cnt)}
    lib.rd_kafka_metadata_destroy(pointer)
    return 0, found


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A partition as the cluster's metadata has it; `leader` is -1 where there is none."""

    partition: int
    leader: int
    replicas: int
    in_sync: int


def partition_states(handle: int, topic: int, timeout_ms: int) -> tuple[int, list[PartitionState]]:
    """Error code (0: none) and the partitions of one topic (an rd_kafka_topic_t)."""
    lib = api()
    pointer = POINTER(_Metadata)()
    code = lib.rd_kafka_metadata(handle, 0, topic, ctypes.byref(pointer), timeout_ms)
    if code:
        return code, []
    found = pointer.contents.topics[0] if pointer.contents.topic_cnt else None
    rows = [found.partitions[i] for i in range(found.partition_cnt)] if found is not None else []
    states = [PartitionState(row.id, row.leader, row.replica_cnt, row.isr_cnt) for row in rows]
    code = found.err if found is not None else 0
    lib.rd_kafka_metadata_destroy(pointer)
    return code, states


def new_consumer(config: Mapping[str, Any], callbacks: Mapping[str, Any]) -> int:
    """A consumer handle. `callbacks`: "rebalance", "error", "log" and "stats" to ctypes callbacks, to be kept alive.

    All of them are called inside calls that the application makes, none on a thread of librdkafka's.

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
    for name, callback in callbacks.items():
        setter: Callable[..., None] = getattr(lib, f"rd_kafka_conf_set_{name}_cb")
        setter(conf, callback)
    refresh = _oauth.prepare(conf, tokens)
    handle = lib.rd_kafka_new(CONSUMER, conf, text, len(text))
    if not handle:
        lib.rd_kafka_conf_destroy(conf)
        raise ConfigurationError(f"can't make a Kafka consumer: {text.value.decode(errors='replace')}")
    lib.rd_kafka_poll_set_consumer(handle)
    lib.rd_kafka_set_log_queue(handle, None)
    _oauth.begin(handle, refresh)
    return int(handle)
