"""What triggers there are. A trigger is asked about one window of one key; where it says yes, the window gives a pane.

Meanings are those of the Dataflow model (Akidau et al., VLDB 2015) as Apache Beam has them. A trigger that has
finished fires no more: further events of its window are ignored. `Repeatedly` starts its trigger anew each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class Trigger:
    """The base of all triggers."""

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """The triggers that it is made of."""
        return ()

    @property
    def once(self) -> bool:
        """Whether it is finished by its first firing, so that a window gives at most one pane."""
        return False

    def describe(self) -> str:
        """As the user would write it, for `explain()`."""
        return repr(self)


@dataclass(frozen=True)
class DefaultTrigger(Trigger):
    """When the watermark passes the window's end, and then for each late event."""


@dataclass(frozen=True)
class AfterCount(Trigger):
    """Once `count` or more events have come since it started; then it is finished.

    Raises:
        ConfigurationError: `count` is below 1.
    """

    count: int

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise ConfigurationError(f"AfterCount({self.count!r}): give a whole number of events, at least 1")

    @property
    def once(self) -> bool:
        return True


@dataclass(frozen=True, init=False)
class AfterProcessingTime(Trigger):
    """Once the wall clock is `delay` past the first event since it started; then it is finished.

    >>> AfterProcessingTime("5s")
    AfterProcessingTime(delay=5000)
    """

    delay: int

    def __init__(self, delay: Duration) -> None:
        object.__setattr__(self, "delay", milliseconds(delay, name="trigger delay", minimum=1))

    @property
    def once(self) -> bool:
        return True


@dataclass(frozen=True)
class AfterWatermark(Trigger):
    """When the watermark passes the window's end.

    Args:
        early: fires before that, again and again.
        late: fires after that, again and again; without it the trigger is then finished.

    >>> AfterWatermark(early=AfterProcessingTime("10s"), late=AfterCount(1))
    AfterWatermark(early=AfterProcessingTime(delay=10000), late=AfterCount(count=1))
    """

    early: Trigger | None = None
    late: Trigger | None = None

    def __post_init__(self) -> None:
        _check(self, *self.parts)

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return tuple(one for one in (self.early, self.late) if one is not None)

    @property
    def once(self) -> bool:
        return not self.parts


@dataclass(frozen=True)
class Repeatedly(Trigger):
    """Fires whenever its trigger does, and starts it anew where that finished it."""

    trigger: Trigger

    def __post_init__(self) -> None:
        _check(self, self.trigger)

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return (self.trigger,)


@dataclass(frozen=True, init=False)
class _Several(Trigger):
    triggers: tuple[Trigger, ...]

    def __init__(self, *triggers: Trigger) -> None:
        _check(self, *triggers)
        if not triggers:
            raise ConfigurationError(f"{type(self).__name__} needs at least one trigger")
        object.__setattr__(self, "triggers", triggers)

    @property
    def parts(self) -> tuple[Trigger, ...]:
        return self.triggers


@dataclass(frozen=True, init=False)
class AfterAny(_Several):
    """Once one of its triggers fires.

    >>> AfterAny(AfterCount(100), AfterProcessingTime("1s")).once
    True
    """

    @property
    def once(self) -> bool:
        return all(one.once for one in self.triggers)


@dataclass(frozen=True, init=False)
class AfterAll(_Several):
    """Once all of its triggers would fire at the same moment."""

    @property
    def once(self) -> bool:
        return all(one.once for one in self.triggers)


@dataclass(frozen=True, init=False)
class AfterEach(_Several):
    """Its triggers one after the other: the next one starts when the one before is finished."""

    @property
    def once(self) -> bool:
        return len(self.triggers) == 1 and self.triggers[0].once


def _check(owner: Trigger, *triggers: object) -> None:
    for one in triggers:
        if not isinstance(one, Trigger):
            raise ConfigurationError(f"{type(owner).__name__} takes triggers, such as AfterCount(10), not {one!r}")
