"""Messages of librdkafka on loan: read in bulk, given back in bulk, and the handle kept alive until all are back."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConnectorError
from thalweg.kafka import _consume_kernels as kernels
from thalweg.kafka import _oauth
from thalweg.kafka._consume_api import address, api
from thalweg.kafka._produce_api import failure
from thalweg.kafka._records import some
from thalweg.records import Int64s, RawRecords

_READ_BYTES = 8 << 20
"""What a read brings at most, if its records are as large as the last one's. The memory of columns of this size is the
allocator's to use again; beyond 32 MB (glibc) each would be the system's, and its pages faulted anew, which costs as
much as the copy."""
_GUESS = 4096
"""Bytes of a record before the first one was seen."""


class ConsumerHandle:
    """An rd_kafka_t. Destroyed when the consumer has dropped it and every message has been given back."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def drop(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            api().rd_kafka_destroy(self.pointer)
            _oauth.end(self.pointer)


class Loan:
    """Messages that belong to librdkafka; `release` gives them back. Shared by the batches cut from one read."""

    def __init__(self, handle: ConsumerHandle, messages: Int64s) -> None:
        self._handle = handle
        self._messages = messages
        self.shares = 1
        """How many batches were cut from it, less those that were released."""
        self._lock = threading.Lock()
        handle.hold()

    def share(self) -> None:
        """One more batch has a part in it."""
        with self._lock:
            self.shares += 1

    def release(self) -> None:
        """Gives one share back; the messages go with the last."""
        with self._lock:
            self.shares -= 1
            if self.shares:
                return
        kernels.destroy(self._messages, address("rd_kafka_message_destroy"))
        self._handle.drop()


class Share:
    """One batch's part in a loan; given back once, at the latest when nobody holds it any more.

    Args:
        messages: the rd_kafka_message_t of each of the batch's rows, for what a `RawRecords` does not carry (headers).
    """

    def __init__(self, loan: Loan, messages: Int64s) -> None:
        self._loan: Loan | None = loan
        self.messages = messages

    def keep(self, rows: npt.NDArray[np.bool_]) -> Share:
        """The batch has lost its other rows."""
        self.messages = self.messages[rows]
        return self

    def share(self, rows: npt.NDArray[np.bool_]) -> Share:
        """The owner of a second batch, of these rows.

        Raises:
            ConnectorError: the batch was released.
        """
        if self._loan is None:
            raise ConnectorError("the records are released already")
        self._loan.share()
        return Share(self._loan, self.messages[rows])

    def release(self) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.release()

    def __del__(self) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class MessageError:
    """A message that carries an error, or the end of a partition, instead of a record."""

    code: int
    topic: str
    partition: int
    offset: int
    text: str


class _Message(ctypes.Structure):
    """rd_kafka_message_t"""

    _fields_ = (
        ("err", ctypes.c_int),
        ("rkt", ctypes.c_void_p),
        ("partition", ctypes.c_int32),
        ("payload", ctypes.c_void_p),
        ("len", ctypes.c_size_t),
        ("key", ctypes.c_void_p),
        ("key_len", ctypes.c_size_t),
        ("offset", ctypes.c_int64),
        ("_private", ctypes.c_void_p),
    )


class MessageReader:
    """Reads messages off a queue and turns them into `RawRecords`."""

    def __init__(self, handle: ConsumerHandle) -> None:
        self._handle = handle
        self._buffer = np.zeros(1024, dtype=np.int64)
        self._count = 0
        self._record_bytes: float = _GUESS
        self._names: dict[int, str] = {}
        self._timestamp = address("rd_kafka_message_timestamp")

    def read(self, queue: int, most: int) -> int:
        """Takes what is there, up to `most`; runs librdkafka's callbacks. Returns how many; `take` has them.

        Large records come in smaller numbers: see `_READ_BYTES`.
        """
        most = min(most, int(_READ_BYTES / self._record_bytes) + 1)
        if most > len(self._buffer):
            self._buffer = np.zeros(most, dtype=np.int64)
        count = api().rd_kafka_consume_batch_queue(queue, 0, self._buffer.ctypes.data, most)
        if count < 0:
            raise ConnectorError(f"can't read from Kafka: {failure(api().rd_kafka_last_error())}")
        self._count = count
        return int(count)

    def serve(self, queue: int) -> None:
        """Runs callbacks only: for a queue that no partition feeds yet."""
        if self.read(queue, 16):
            for error in self.take()[1]:
                raise ConnectorError(f"{error.topic}: {failure(error.code, error.text)}")

    def take(self) -> tuple[list[RawRecords], list[MessageError]]:
        """What `read` has read: records by topic, and errors."""
        n, self._count = self._count, 0
        messages = self._buffer[:n].copy()
        loan = Loan(self._handle, messages)
        topics, errors_at = np.empty(n, np.int64), np.empty(n, np.int64)
        values, keys = np.empty(n, np.uint64), np.empty(n, np.uint64)
        value_lengths, key_lengths = np.empty(n, np.int64), np.empty(n, np.int64)
        partition, offset, timestamp = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64)
        failed = kernels.gather(
            messages, n, self._timestamp, topics, values, value_lengths, keys, key_lengths, partition, offset,
            timestamp, errors_at,
        )  # fmt: skip
        errors = [self._error(int(messages[i])) for i in errors_at[:failed].tolist()]
        rows = n - failed
        raw = RawRecords(
            "", values[:rows], value_lengths[:rows], keys[:rows], key_lengths[:rows], partition[:rows], offset[:rows],
            timestamp[:rows],
        )  # fmt: skip
        if not rows:
            loan.release()
            return [], errors
        self._record_bytes = max(1.0, float(raw.value_length.sum() + raw.key_length.sum()) / rows)
        good = np.delete(messages, errors_at[:failed]) if failed else messages
        return self._by_topic(raw, topics[:rows], loan, good), errors

    def _by_topic(self, raw: RawRecords, topics: Int64s, loan: Loan, messages: Int64s) -> list[RawRecords]:
        first = int(topics[0])
        if (topics == first).all():
            raw.topic = self._name(first)
            raw.owner = Share(loan, messages)
            return [raw]
        handles = np.unique(topics).tolist()
        loan.shares = len(handles)
        rows = [topics == handle for handle in handles]
        return [
            some(raw, mine, Share(loan, messages[mine]), self._name(handle))
            for handle, mine in zip(handles, rows, strict=True)
        ]

    def _name(self, handle: int) -> str:
        name = self._names.get(handle)
        if name is None:
            name = self._names[handle] = api().rd_kafka_topic_name(handle).decode()
        return name

    def _error(self, pointer: int) -> MessageError:
        message = _Message.from_address(pointer)
        topic = api().rd_kafka_topic_name(message.rkt).decode() if message.rkt else ""
        text = (api().rd_kafka_message_errstr(pointer) or b"").decode(errors="replace")
        return MessageError(message.err, topic, message.partition, message.offset, text)
