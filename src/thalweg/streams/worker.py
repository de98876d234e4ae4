"""Which of a job's workers this process is: the supervisor (`thalweg run --workers N`) says so by the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.errors import ConfigurationError
from thalweg.streams.connector import Broker, ScalableBroker

SLOT = "THALWEG_SLOT"
WORKERS = "THALWEG_WORKERS"


@dataclass(frozen=True)
class Worker:
    """A worker's place in its job.

    Args:
        slot: its number, one of a kind among all workers of the job on all hosts: a restart in the same slot takes over
            at once, a second worker in a slot ends the first.
        workers: how many were started together.
    """

    slot: int = 0
    workers: int = 1

    def check(self, broker: Broker, name: str, checkpoint_storage: str | None = None) -> None:
        """Refuses several workers, and state elsewhere, where the broker serves one worker and keeps its state.

        Raises:
            ConfigurationError: the broker is the embedded log, or another one that deals out no partitions.
        """
        if checkpoint_storage is not None and not isinstance(broker, ScalableBroker):
            raise ConfigurationError(
                f"app {name!r}: its broker keeps state together with its topics; leave checkpoint_storage out, or use "
                "a kafka:// broker"
            )
        if (self.workers > 1 or self.slot > 0) and not isinstance(broker, ScalableBroker):
            raise ConfigurationError(
                f"app {name!r} can't run on {max(self.workers, self.slot + 1)} workers: its broker keeps everything on "
                "this machine, where no other worker could reach it. Use a kafka:// broker, or one worker"
            )


def this_worker(environment: Mapping[str, str] = os.environ) -> Worker:
    """The worker that this process is.

    Raises:
        ConfigurationError: the environment says something else than numbers.
    """
    try:
        return Worker(int(environment.get(SLOT, "0")), int(environment.get(WORKERS, "1")))
    except ValueError as error:
        raise ConfigurationError(f"{SLOT} and {WORKERS} are numbers: {error}") from error
