"""When all state is to be written: beside the commits where the committer can do that, else by one of them."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.streams.checkpoints import CheckpointConfig
from thalweg.streams.engine.commits import CommitFigures
from thalweg.streams.engine.snapshots import Upload
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
        self._under_way: list[float] = []
        """When those under way were taken."""
        self.last_ms = self.longest_ms = 0.0

    @property
    def forced(self) -> bool:
        """Whether the next commit has to carry all state itself: nothing may be left of what was there before."""
        return self._forced

    def due(self, now: float, figures: CommitFigures) -> bool:
        """Whether the state is to be written in full as of the commit that starts now."""
        if self._forced:
            return True
        deltas = figures.delta_bytes + (0 if figures.checkpoints else self._recovered_bytes)
        if deltas == 0 or len(self._under_way) >= self.config.max_concurrent_checkpoints:
            return False
        pause = self.config.min_pause_between_checkpoints
        if pause and (self._under_way or (now - self._ended) * 1000 < pause):
            return False
        if deltas > max(FLOOR, GROWTH * figures.full_bytes) and figures.checkpoints and not self._under_way:
            return True
        return self.config.enabled and (now - self._started) * 1000 >= self.config.interval

    def started(self, now: float) -> None:
        """Notes that a full snapshot was handed over."""
        self._started, self._forced = now, False
        self._under_way.append(now)

    def ended(self, now: float, began: float | None = None) -> None:
        """Notes that it is durable; which one: the one that began then, or the oldest."""
        began = self._forget(now, began)
        self.last_ms = (now - began) * 1000
        self.longest_ms = max(self.longest_ms, self.last_ms)

    def abandoned(self, now: float, began: float) -> None:
        """Notes that it won't be; the next is due as if it were."""
        self._forget(now, began)

    def _forget(self, now: float, began: float | None) -> float:
        began = self._under_way[0] if began is None else began
        self._under_way.remove(began)
        self._ended = now
        return began

    def status(self, now: float, figures: CommitFigures, uploads: Sequence[Upload] = ()) -> CheckpointStatus:
        """What there is to say of checkpoints now; `uploads`: those in the background, oldest first."""
        config = self.config
        since = (now - self._under_way[0]) * 1000 if self._under_way else None
        progress = None if since is None else figures.encoded / max(figures.to_encode, 1)
        if uploads:
            progress = uploads[0].encoded / max(uploads[0].operators, 1)
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
            progress=progress,
            abandoned=figures.abandoned,
            next_in_ms=max(0.0, *waits) if config.enabled else None,
        )
