"""`SqliteBroker`: the embedded log as a job sees it."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.connectors.sqlite.committer import SqliteCommitter
from thalweg.connectors.sqlite.database import path_of
from thalweg.connectors.sqlite.source import SqliteSource
from thalweg.connectors.sqlite.topics import Topics, open_topics
from thalweg.durations import Duration
from thalweg.errors import ConfigurationError
from thalweg.records import Decoder
from thalweg.streams.connector import Committer, JobSettings, Source


class SqliteBroker:
    """`Broker` over the embedded log: `sqlite:///data.db`. It serves one worker per job.

    Args:
        url: `sqlite:///data.db`, or `sqlite:////var/data.db` for an absolute path.
        busy_timeout: how long to wait for another process's write transaction.
        durability: "normal" survives a killed process; "full" also a power cut, at one fsync per commit.
        retention: how long topics made by this broker keep events; None: for ever.
        retention_bytes: how many stored bytes a partition of such a topic keeps; None: no bound.
        on_trimmed: "error" stops a job that comes too late for events that retention has removed; "skip" goes on.
        partitions: of topics that `ensure_topic` makes without being told how many.

    Raises:
        ConfigurationError, ConnectorError: in words that say what to do.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_timeout: Duration = "10s",
        durability: str = "normal",
        retention: Duration | None = "7d",
        retention_bytes: int | None = None,
        on_trimmed: str = "error",
        partitions: int = 1,
    ) -> None:
        if on_trimmed not in ("error", "skip"):
            raise ConfigurationError(f'on_trimmed is {on_trimmed!r}; use "error" or "skip"')
        self._path = path_of(url)
        self._arguments = (busy_timeout, durability, retention, retention_bytes)
        self._on_trimmed = on_trimmed
        self._partitions = partitions
        self._topics = self._connect()

    def _connect(self) -> Topics:
        return open_topics(self._path, *self._arguments)

    def source(self, topic: str, decoder: Decoder, job: JobSettings, *, broker_timestamps: bool = False) -> Source:
        _check_slot(job)
        return SqliteSource(
            self._connect(), topic, decoder, job, broker_timestamps=broker_timestamps, on_trimmed=self._on_trimmed
        )

    def committer(self, job: JobSettings, sources: Sequence[Source]) -> Committer:
        _check_slot(job)
        return SqliteCommitter(self._connect(), job)

    def ensure_topic(self, topic: str, partitions: int | None = None) -> int:
        return self._topics.ensure(topic, partitions or self._partitions).partitions

    def partitions(self, topic: str) -> int:
        return self._topics.find(topic).partitions

    def close(self) -> None:
        self._topics.database.close()


def _check_slot(job: JobSettings) -> None:
    if job.slot:
        raise ConfigurationError("the embedded log serves one worker; for more use a kafka:// broker")
