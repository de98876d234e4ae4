"""Dead letters: records that are tried again later, and what is left when that did not help."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.kafka.dead_letter.letters import DeadLetter
    from thalweg.kafka.dead_letter.policy import RetryPolicy
    from thalweg.kafka.dead_letter.queue import DeadLetterQueue, Replayed
    from thalweg.kafka.dead_letter.retrying import RetryingConsumer

_HOMES = {
    "DeadLetter": "letters",
    "DeadLetterQueue": "queue",
    "Replayed": "queue",
    "RetryPolicy": "policy",
    "RetryingConsumer": "retrying",
}

__all__ = ["DeadLetter", "DeadLetterQueue", "Replayed", "RetryPolicy", "RetryingConsumer"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
