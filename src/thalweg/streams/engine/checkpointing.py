"""When a commit is to carry a full snapshot instead of deltas."""

from __future__ import annotations

from thalweg.streams.checkpoints import CheckpointConfig
from thalweg.streams.engine.commits import CommitFigures
from thalweg.streams.engine.status import CheckpointStatus

GROWTH = 2
"""Deltas beyond this many times the last full snapshot cost recovery more than a new one costs now."""
FLOOR = 4 * 1024 * 1024
"""Below this many bytes of deltas, recovery is quick in any case."""


class Checkpointing:
    """Follows `CheckpointConfig`, and the deltas' growth. Times are seconds of a monotonic clock."""

    def __init__(self, config: CheckpointConfig, now: float, *, recovered_bytes: int, forced: bool) -> None:
        self.config = config
        self._forced = forced
        self._started = now
        self._ended = now
        self._recovered_bytes = recovered_bytes
        self._under_way: float | None = None
        self.last_ms = self.longest_ms = 0.0

    def due(self, now: float, figures: CommitFigures) -> bool:
        """Whether the commit that starts now carries a full snapshot."""
        if self._forced:
            return True
        deltas = figures.delta_bytes + (0 if figures.checkpoints else self._recovered_bytes)
        if deltas == 0 or (now - self._ended) * 1000 < self.config.min_pause_between_checkpoints:
            return False
        if deltas > max(FLOOR, GROWTH * figures.full_bytes) and figures.checkpoints:
            return True
        return self.config.enabled and (now - self._started) * 1000 >= self.config.interval

    def started(self, now: float) -> None:
        """Notes that a full snapshot was handed over."""
        self._started, self._forced = now, False
        self._under_way = now

    def ended(self, now: float) -> None:
        """Notes that it is durable."""
        self._ended = now
        if self._under_way is not None:
            self.last_ms = (now - self._under_way) * 1000
            self.longest_ms = max(self.longest_ms, self.last_ms)
            self._under_way = None

    def status(self, now: float, figures: CommitFigures) -> CheckpointStatus:
        """What there is to say of checkpoints now."""
        config = self.config
        since = None if self._under_way is None else (now - self._under_way) * 1000
        waits = [config.interval - (now - self._started) * 1000]
        if figures.checkpoints:
            waits.append(config.min_pause_between_checkpoints - (now - self._ended) * 1000)
        return CheckpointStatus(
            enabled=config.enabled,
            count=figures.checkpoints,
            last_bytes=figures.full_bytes,
            last_ms=self.last_ms,
            longest_ms=self.longest_ms,
            under_way_ms=since,
            progress=None if since is None else figures.encoded / max(figures.to_encode, 1),
            next_in_ms=max(0.0, *waits) if config.enabled else None,
        )
