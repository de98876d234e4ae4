"""Triggers: when a window gives its result, once or many times. See `definitions` for the kinds."""

from thalweg.streams.triggers.definitions import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
    Trigger,
)

__all__ = [
    "AfterAll",
    "AfterAny",
    "AfterCount",
    "AfterEach",
    "AfterProcessingTime",
    "AfterWatermark",
    "DefaultTrigger",
    "Repeatedly",
    "Trigger",
]
