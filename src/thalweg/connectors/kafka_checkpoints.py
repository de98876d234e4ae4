"""State epochs as objects of a checkpoint store, in place of the changelog topic.

One object per epoch and state partition, `<job>/<partition>/<epoch>-<writer>`: what the changelog would hold for it,
written before the transaction that names it; one `<epoch>-<writer>-all` per snapshot. The committed offsets say which
epochs count, as with the changelog; an object that none of them leads to was written by a worker that died, and is
deleted with those that a snapshot has superseded.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from thalweg.connectors.checkpoint_store import CheckpointStore
from thalweg.connectors.kafka_changelog import Chain, Chunk, EpochName, Restored, Tip
from thalweg.errors import ConnectorError, StateError

logger = logging.getLogger("thalweg.kafka")

MAGIC = b"TWCP"
VERSION = 1
_THREADS = 8


class CheckpointLog:
    """The state epochs of one job in a store.

    Args:
        store: where.
        job: its name: the folder.
    """

    def __init__(self, store: CheckpointStore, job: str) -> None:
        self._store = store
        self._job = job
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="thalweg-checkpoint")

    def read(self, tips: Mapping[int, Tip]) -> dict[int, Restored]:
        """The state at the named epochs, per state partition; a tip's base offset is its base epoch.

        Raises:
            StateError: an epoch is missing, or unreadable.
            ConnectorError: the store does not answer.
        """
        restored: dict[int, Restored] = {}
        for partition, tip in tips.items():
            chain = Chain(f"checkpoint storage, job {self._job}", partition)
            names = [name for name in self._names(partition) if tip.base_offset <= _epoch(name) <= tip.name.epoch]
            for name, payload in zip(names, self._pool.map(self._store.get, names), strict=True):
                if payload is not None:
                    for key, value in _unpack(payload, name):
                        chain.add(key, value, _epoch(name))
            restored[partition] = chain.restore(tip.name)
        return restored

    def highest_epoch(self) -> int:
        """The highest epoch in the store, named by offsets or not; 0 when there is none."""
        partitions = [int(name) for name in self._store.folders(self._job) if name.isdigit()]
        return max((_epoch(name) for p in partitions for name in self._names(p)), default=0)

    def write(self, chunks: Sequence[Chunk], names: Mapping[int, EpochName], *, snapshot: bool = False) -> None:
        """Writes the epochs of a commit, or the snapshots of such; returns when they are durable.

        Args:
            names: the epoch of each state partition in `chunks`.
        """
        grouped: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            grouped.setdefault(chunk.state_partition, []).append(chunk)
        writing = [
            self._pool.submit(self._store.put, self._name(partition, names[partition], snapshot=snapshot), _pack(parts))
            for partition, parts in grouped.items()
        ]
        for future in writing:
            future.result()

    def prune(self, bases: Mapping[int, int]) -> None:
        """Has the epochs of each state partition before its base deleted, soon; no commit waits for it."""
        for partition, base in bases.items():
            self._pool.submit(self._prune, partition, base)

    def close(self) -> None:
        """Ends after what is under way."""
        self._pool.shutdown(wait=True)

    def _prune(self, partition: int, base: int) -> None:
        try:
            self._store.delete(name for name in self._names(partition) if _epoch(name) < base)
        except ConnectorError as error:
            # Nothing is wrong with the job: what is left is deleted after the next full snapshot.
            logger.warning("old epochs of state partition %d were not deleted: %s", partition, error)

    def _name(self, partition: int, epoch: EpochName, *, snapshot: bool) -> str:
        return f"{self._job}/{partition:05d}/{epoch.epoch:012d}-{epoch.writer}{'-all' if snapshot else ''}"

    def _names(self, partition: int) -> list[str]:
        folder = f"{self._job}/{partition:05d}"
        return [f"{folder}/{name}" for name in self._store.names(folder)]


def _epoch(name: str) -> int:
    number = name.rpartition("/")[2].partition("-")[0]
    if not number.isdigit():
        raise StateError(
            f"checkpoint storage holds {name!r}, which is not a state epoch; is the folder used otherwise?"
        )
    return int(number)


def _pack(chunks: Iterable[Chunk]) -> bytes:
    parts = []
    for chunk in chunks:
        parts += [len(chunk.key).to_bytes(4, "little"), len(chunk.value).to_bytes(8, "little"), chunk.key, chunk.value]
    body = b"".join(parts)
    return b"".join([MAGIC, bytes([VERSION]), zlib.crc32(body).to_bytes(4, "little"), body])


def _unpack(payload: bytes, name: str) -> list[tuple[bytes, bytes]]:
    if payload[:4] != MAGIC or len(payload) < 9:
        raise StateError(f"{name!r} in the checkpoint storage is not a state epoch")
    if payload[4] != VERSION:
        raise StateError(f"{name!r}: format version {payload[4]}; this version of Thalweg reads {VERSION}")
    body = payload[9:]
    if zlib.crc32(body) != int.from_bytes(payload[5:9], "little"):
        raise StateError(f"{name!r} in the checkpoint storage is damaged. Restore it, or start under a new name")
    records: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(body):
        key_end = at + 12 + int.from_bytes(body[at : at + 4], "little")
        end = key_end + int.from_bytes(body[at + 4 : at + 12], "little")
        records.append((body[at + 12 : key_end], body[key_end:end]))
        at = end
    return records
