"""Checkpoints: full snapshots that supersede the state deltas of the commits between them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

if TYPE_CHECKING:
    from thalweg.streams.state.pool import StatePool


@dataclass(frozen=True)
class StateBackend:
    """Where working state lives. Durable state is the broker's affair: it is committed with outputs and offsets.

    Operators compute on columns in memory. A backend says how much memory those may take, and where the columns that
    were used least recently go beyond that; they come back when they are needed. What is there belongs to one run: it
    is removed when the job ends, and what a crash has left is removed at the next start, which rebuilds the state from
    the last commit.
    """

    kind: str = "memory"
    url: str | None = None
    """Folder or address; None: a folder among the system's temporary ones."""
    memory_limit: int | None = None
    """Bytes."""
    ttl: int | None = None
    """How long `process()` state lives that names no time of its own, ms."""

    @classmethod
    def memory(
        cls, *, limit: int | str | None = None, spill_to: str | None = None, ttl: Duration | None = None
    ) -> StateBackend:
        """State in memory (the default); beyond a limit in files.

        Args:
            limit: bytes, or "512MB"; None: no limit.
            spill_to: the folder for what is beyond it; None: one among the system's temporary folders.
            ttl: how long `process()` state lives that names no time of its own, by event time.
        """
        if spill_to is not None and limit is None:
            raise ConfigurationError("StateBackend.memory: spill_to needs a limit, beyond which state is spilled")
        return cls("memory", spill_to, None if limit is None else size_of(limit), _ttl(ttl))

    @classmethod
    def rocksdb(cls, path: str, *, memory_limit: int | str = "256MB", ttl: Duration | None = None) -> StateBackend:
        """State in RocksDB: more than fits into memory, on a local disk. Needs `thalweg[rocksdb]`.

        Args:
            path: a folder; each job and worker gets one in it.
            memory_limit: how much of the state stays in memory as well.
            ttl: as in `memory`.
        """
        if not path:
            raise ConfigurationError("StateBackend.rocksdb needs the path of a folder")
        return cls("rocksdb", path, size_of(memory_limit), _ttl(ttl))

    @classmethod
    def redis(cls, url: str, *, memory_limit: int | str = "256MB", ttl: Duration | None = None) -> StateBackend:
        """State in a Redis server: more than fits into this machine. Needs `thalweg[redis]`.

        Args:
            url: `redis://[user:password@]host:port/database`; the server must not evict keys
                (`maxmemory-policy noeviction`).
            memory_limit: how much of the state stays in memory as well.
            ttl: as in `memory`.
        """
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError(f"StateBackend.redis takes redis://host:port/database, not {url!r}")
        return cls("redis", url, size_of(memory_limit), _ttl(ttl))

    def open(self, job: str, slot: int = 0) -> StatePool:
        """The pool of one run of a job's worker.

        Raises:
            MissingExtraError: the package that it needs is not installed.
            StateError: the folder or server can't be used.
        """
        from thalweg.streams.state import cold
        from thalweg.streams.state.pool import ColdStore, StatePool

        if self.kind == "memory" and self.memory_limit is None:
            return StatePool(ttl=self.ttl)
        name = f"{job}-{slot}"
        store: ColdStore
        if self.kind == "redis":
            store = cold.RedisStore(str(self.url), f"thalweg:{name}")
        elif self.kind == "rocksdb":
            store = cold.RocksStore(Path(str(self.url)) / name)
        else:
            folder = Path(self.url) if self.url is not None else Path(tempfile.gettempdir()) / "thalweg-state"
            store = cold.DiskStore(folder / name)
        return StatePool(self.memory_limit, store, ttl=self.ttl)

    def __repr__(self) -> str:
        # The address may hold a password.
        return f"StateBackend({self.kind!r}, memory_limit={self.memory_limit}, ttl={self.ttl})"


_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size_of(size: int | str) -> int:
    """Bytes: a number, or text with a unit.

    Raises:
        ConfigurationError: neither, or less than 1.

    >>> size_of("512MB"), size_of("1.5 GiB"), size_of(4096)
    (512000000, 1610612736, 4096)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(size).lower())
    if match is None or match[2] not in _SIZES or isinstance(size, bool):
        raise ConfigurationError(f"{size!r} is not a size; give bytes, or text such as '512MB'")
    found = int(float(match[1]) * _SIZES[match[2]])
    if found < 1:
        raise ConfigurationError(f"{size!r}: the memory limit must be at least 1 byte")
    return found


def _ttl(ttl: Duration | None) -> int | None:
    return None if ttl is None else milliseconds(ttl, name="ttl", minimum=1)


@dataclass(frozen=True, init=False)
class CheckpointConfig:
    """How often a full snapshot supersedes the deltas.

    Deltas go with *every* commit, so checkpoints are not what recovery depends on: they bound how much it has to read.

    Args:
        enabled: without checkpoints a full snapshot is written only when the deltas outgrow the state.
        interval: from the start of one to the start of the next (a duration; ms where it is an int).
        timeout: a checkpoint beside the commits (on Kafka) that is not durable after this long is abandoned: the one
            before stands, and the job goes on. A commit that is not durable after this long fails the job; so does a
            checkpoint that is part of one.
        min_pause_between_checkpoints: the least time from the end of one to the start of the next. With a pause there
            is one at a time.
        max_concurrent_checkpoints: how many may be under way at a time. Where each is part of a commit (the embedded
            log) there is never more than one.
        backend: where working state lives; `StateBackend.memory()` where not given.

    Raises:
        ConfigurationError: a value that can't work.
    """

    enabled: bool = True
    interval: int = 60_000
    timeout: int = 120_000
    min_pause_between_checkpoints: int = 0
    max_concurrent_checkpoints: int = 1
    backend: StateBackend = field(default_factory=StateBackend)

    def __init__(
        self,
        enabled: bool = True,
        interval: Duration = 60_000,
        timeout: Duration = 120_000,
        min_pause_between_checkpoints: Duration = 0,
        max_concurrent_checkpoints: int = 1,
        backend: StateBackend | None = None,
    ) -> None:
        if max_concurrent_checkpoints < 1:
            raise ConfigurationError(
                f"max_concurrent_checkpoints is {max_concurrent_checkpoints}; it must be at least 1 "
                "(enabled=False does without checkpoints)"
            )
        pause = milliseconds(min_pause_between_checkpoints, name="min_pause_between_checkpoints")
        values = {
            "enabled": bool(enabled),
            "interval": milliseconds(interval, name="checkpoint interval", minimum=1),
            "timeout": milliseconds(timeout, name="checkpoint timeout", minimum=1),
            "min_pause_between_checkpoints": pause,
            "max_concurrent_checkpoints": max_concurrent_checkpoints,
            "backend": backend or StateBackend.memory(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
