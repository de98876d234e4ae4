"""What one attempt of a job needs to know of its app."""

from __future__ import annotations

from dataclasses import dataclass, field

from thalweg.streams.checkpoints import CheckpointConfig
from thalweg.streams.connector import JobSettings
from thalweg.streams.engine.requests import Requests
from thalweg.streams.savepoints import Savepoint


@dataclass(frozen=True)
class SessionSettings:
    """What a session needs to know of its app."""

    job: JobSettings
    commit_interval: int
    checkpoint: CheckpointConfig
    max_batch_rows: int
    late_to_dead_letters: bool
    forget_state: tuple[str, ...]
    key_groups: int = 128
    max_drift: int | None = None
    """How far apart in event time inputs that meet may be, ms; None: any."""
    requests: Requests = field(default_factory=Requests)
    """What other threads ask of the job."""
    savepoint: Savepoint | None = None
    """Where to start instead of at the last commit."""
    state_only: bool = False
    """Nothing is read: the job runs until what is asked of it is answered, for a savepoint's sake."""

    @property
    def must_be_alone(self) -> bool:
        """Whether no other worker may run: all state is to be in one hand."""
        return self.state_only or self.savepoint is not None
