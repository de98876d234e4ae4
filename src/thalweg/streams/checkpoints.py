"""Checkpoints: full snapshots that supersede the state deltas of the commits between them."""

from __future__ import annotations

from dataclasses import dataclass, field

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class StateBackend:
    """Where working state lives. Durable state is the broker's affair: it is committed with outputs and offsets."""

    kind: str = "memory"
    url: str | None = None

    @classmethod
    def memory(cls) -> StateBackend:
        """Frames in memory, as the engine computes on them (the default)."""
        return cls("memory")

    @classmethod
    def redis(cls, url: str) -> StateBackend:
        """State in Redis: not served yet; an `App` refuses it."""
        return cls("redis", url)

    @classmethod
    def rocksdb(cls, path: str) -> StateBackend:
        """State in RocksDB: not served yet; an `App` refuses it."""
        return cls("rocksdb", path)


@dataclass(frozen=True, init=False)
class CheckpointConfig:
    """How often a full snapshot supersedes the deltas.

    Deltas go with *every* commit, so checkpoints are not what recovery depends on: they bound how much it has to read.

    Args:
        enabled: without checkpoints a full snapshot is written only when the deltas outgrow the state.
        interval: from the start of one to the start of the next (a duration; ms where it is an int).
        timeout: a checkpoint that is not durable after this long fails the job: its commit can't be taken back apart
            from it.
        min_pause_between_checkpoints: the least time from the end of one to the start of the next.
        max_concurrent_checkpoints: 1, as a checkpoint is part of a commit, and commits follow each other.
        backend: working state, `StateBackend.memory()`.

    Raises:
        ConfigurationError: a value that can't work, or that is not served yet.
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
        if max_concurrent_checkpoints != 1:
            raise ConfigurationError(
                f"max_concurrent_checkpoints is {max_concurrent_checkpoints}; only 1 is served: a checkpoint is "
                "part of a commit, and commits follow each other"
            )
        backend = backend or StateBackend.memory()
        if backend.kind != "memory":
            raise ConfigurationError(
                f"StateBackend.{backend.kind} is not served yet; use StateBackend.memory() (durable state is committed "
                "to the broker in any case)"
            )
        pause = milliseconds(min_pause_between_checkpoints, name="min_pause_between_checkpoints")
        values = {
            "enabled": bool(enabled),
            "interval": milliseconds(interval, name="checkpoint interval", minimum=1),
            "timeout": milliseconds(timeout, name="checkpoint timeout", minimum=1),
            "min_pause_between_checkpoints": pause,
            "max_concurrent_checkpoints": max_concurrent_checkpoints,
            "backend": backend,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
