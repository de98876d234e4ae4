"""What a keyed function is told beside the event: key, times, timers, and where results can go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.streams.batch import DEAD, LATE, MAIN
from thalweg.streams.process.timers import Timer, Timers

__all__ = ["Context", "Timer"]

Emit = Callable[[str, Any], None]


class Context:
    """Of the event, or the timer, at hand. Not to be kept: the next call changes it."""

    def __init__(self, handles: Mapping[str, Any], timers: Timers, emit: Emit) -> None:
        self._handles = handles
        self._timers = timers
        self._emit = emit
        self._fires: int | None = None
        self.key: Any = None
        """The value of the key column; a tuple where there are several; None where there are none."""
        self.timestamp = 0
        """Event time, ms UTC: the event's, or that of the timer."""
        self.watermark = 0
        """No event of the event's own partition is expected before this, ms UTC; for a timer its own time."""
        self.clock = 0
        """The job's clock, ms UTC."""

    def __getitem__(self, name: str) -> Any:
        """The state of this name, for functions that are no class: `ctx["total"].get()`."""
        try:
            return self._handles[name]
        except KeyError:
            known = ", ".join(self._handles) or "none"
            raise KeyError(f"no state {name!r} is declared; there is: {known}") from None

    def emit(self, record: Any, port: str = MAIN) -> None:
        """Sends a record, which gets the key columns, to the main output or to one of the step's other ports.

        Raises:
            ConfigurationError: the port is one of the engine's own.
        """
        if port in {DEAD, LATE}:
            raise ConfigurationError(f"port {port!r} is the engine's own; call the side output differently")
        self._emit(port, record)

    def set_timer(self, time: int, name: str = "", *, processing: bool = False) -> None:
        """Calls `on_timer` for this key when the watermark (`processing`: the clock) has reached `time`, ms UTC.

        A timer is known by clock, time and name: set twice it comes once. One in the past comes next.

        Raises:
            ValueError: `on_timer` sets a timer that is not later than its own: it would never end.
        """
        time = int(time)
        if self._fires is not None and time <= self._fires:
            raise ValueError(f"on_timer at {self._fires} sets a timer at {time}: give it a later time")
        self._timers.add(time, name, processing=processing)

    def delete_timer(self, time: int, name: str = "", *, processing: bool = False) -> None:
        """Takes a timer back, if it is set."""
        self._timers.remove(int(time), name, processing=processing)

    @property
    def timers(self) -> list[Timer]:
        """The key's timers, in order of time."""
        return self._timers.all(self._timers._now.slot)
