"""A plain model of triggers, event by event, with Python objects: what the engine is compared with.

A trigger is asked after each event, and when the watermark passes a window's end. State is a dict per trigger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thalweg.streams.triggers import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
)

State = dict[Any, int]


def event(trigger: Any, state: State, path: tuple[int, ...] = ()) -> bool:
    """Takes an event; true where it is to be asked at the end."""
    if isinstance(trigger, AfterCount):
        state[path] = state.get(path, 0) + 1
        return False
    if isinstance(trigger, DefaultTrigger):
        return True
    if isinstance(trigger, AfterWatermark):
        if state.get(path) and trigger.late:
            return event(Repeatedly(trigger.late), state, (*path, 1))
        if trigger.early:
            event(Repeatedly(trigger.early), state, (*path, 0))
        return True
    if isinstance(trigger, AfterEach):
        at = state.get(path, 0)
        return at < len(trigger.triggers) and event(trigger.triggers[at], state, (*path, at))
    armed = [event(one, state, (*path, i)) for i, one in enumerate(trigger.parts)]  # all of them take it
    return any(armed)


def ready(trigger: Any, state: State, passed: bool, path: tuple[int, ...] = ()) -> bool:
    if isinstance(trigger, AfterCount):
        return state.get(path, 0) >= trigger.count
    if isinstance(trigger, DefaultTrigger):
        return passed
    if isinstance(trigger, AfterWatermark):
        if state.get(path) and trigger.late:
            return ready(Repeatedly(trigger.late), state, passed, (*path, 1))
        early = trigger.early is not None and ready(Repeatedly(trigger.early), state, passed, (*path, 0))
        return passed or early
    if isinstance(trigger, AfterEach):
        at = state.get(path, 0)
        return at < len(trigger.triggers) and ready(trigger.triggers[at], state, passed, (*path, at))
    answers = [ready(one, state, passed, (*path, i)) for i, one in enumerate(trigger.parts)]
    return all(answers) if isinstance(trigger, AfterAll) else any(answers)


def fire(trigger: Any, state: State, passed: bool, path: tuple[int, ...] = ()) -> bool:
    """Fires; true where that finishes it."""
    if isinstance(trigger, AfterCount):
        return True
    if isinstance(trigger, DefaultTrigger):
        return False
    if isinstance(trigger, AfterWatermark):
        if state.get(path) and trigger.late:
            return fire(Repeatedly(trigger.late), state, passed, (*path, 1))
        if passed:
            state[path] = 1
            return trigger.late is None
        assert trigger.early is not None
        return fire(Repeatedly(trigger.early), state, passed, (*path, 0))
    if isinstance(trigger, Repeatedly):
        below = (*path, 0)
        if fire(trigger.trigger, state, passed, below):
            for known in [known for known in state if known[: len(below)] == below]:
                del state[known]
        return False
    if isinstance(trigger, AfterEach):
        at = state.get(path, 0)
        if fire(trigger.triggers[at], state, passed, (*path, at)):
            state[path] = at + 1
        return state.get(path, 0) == len(trigger.triggers)
    children = [(one, (*path, i)) for i, one in enumerate(trigger.parts)]
    done = [fire(one, state, passed, where) for one, where in children if ready(one, state, passed, where)]
    return any(done) if isinstance(trigger, AfterAny) else all(done)


def merged(trigger: Any, a: State, b: State) -> State:
    """The state of two windows that have become one."""
    counts = {path for path in {*a, *b} if isinstance(_at(trigger, path), AfterCount)}
    return {
        path: a.get(path, 0) + b.get(path, 0) if path in counts else max(a.get(path, 0), b.get(path, 0))
        for path in {*a, *b}
    }


def _at(trigger: Any, path: tuple[int, ...]) -> Any:
    for i in path:
        if isinstance(trigger, AfterWatermark):
            trigger = Repeatedly((trigger.early, trigger.late)[i])  # type: ignore[arg-type]
        else:
            trigger = trigger.parts[i]
    return trigger


@dataclass
class OneWindow:
    start: int
    end: int
    state: State = field(default_factory=dict)
    values: list[int] = field(default_factory=list)
    armed: bool = False
    finished: bool = False
    index: int = 0
    later: int = 0


class Model:
    """Windows of one key: tumbling of `size`, or sessions of `gap`."""

    def __init__(
        self, trigger: Any, *, size: int | None, gap: int | None, lateness: int, accumulating: bool, disorder: int
    ) -> None:
        self.trigger, self.size, self.gap = trigger, size, gap
        self.lateness, self.accumulating, self.disorder = lateness, accumulating, disorder
        self.windows: list[OneWindow] = []
        self.newest: int | None = None
        self.panes: list[tuple[Any, ...]] = []
        self.late: list[int] = []

    @property
    def watermark(self) -> int:
        return -(2**62) if self.newest is None else self.newest - self.disorder

    def send(self, time: int, value: int) -> None:
        self._take(time, value)
        self.newest = time if self.newest is None else max(self.newest, time)
        for window in sorted(self.windows, key=lambda w: w.end):
            if window.armed and not window.finished and window.end <= self.watermark:
                self._ask(window, at_end=True)
        self.windows = [w for w in self.windows if w.end + self.lateness > self.watermark]

    def _take(self, time: int, value: int) -> None:
        window = self._window(time)
        if window is None:
            self.late.append(value)
            return
        if window.finished:
            return
        window.values.append(value)
        window.armed = event(self.trigger, window.state) or window.armed
        self._ask(window, at_end=False)

    def _window(self, time: int) -> OneWindow | None:
        if self.size is not None:
            start = time // self.size * self.size
            for window in self.windows:
                if window.start == start:
                    return window
            new = OneWindow(start, start + self.size)
        else:
            assert self.gap is not None
            near = [w for w in self.windows if w.start < time + self.gap and w.end > time]
            new = OneWindow(time, time + self.gap)
            if near:
                return self._join(near, new)
        if new.end + self.lateness <= self.watermark:
            return None
        self.windows.append(new)
        return new

    def _join(self, near: list[OneWindow], new: OneWindow) -> OneWindow:
        start, end = min(w.start for w in (*near, new)), max(w.end for w in (*near, new))
        kept = near[0]
        if len(near) == 1 and (kept.start, kept.end) == (start, end):
            return kept
        for other in near[1:]:
            kept.state = merged(self.trigger, kept.state, other.state)
            kept.values = kept.values + other.values
            kept.finished = kept.finished or other.finished
            self.windows.remove(other)
        kept.armed = kept.armed and len(near) == 1
        kept.start, kept.end, kept.index, kept.later = start, end, 0, 0
        return kept

    def _ask(self, window: OneWindow, *, at_end: bool) -> None:
        passed = self.watermark >= window.end
        window.armed = window.armed and not passed
        if not ready(self.trigger, window.state, passed):
            return
        window.finished = fire(self.trigger, window.state, passed)
        later, timing = -1, "early"
        if passed:
            later, window.later = window.later, window.later + 1
            timing = "on_time" if at_end and later == 0 else "late"
        self.panes.append(
            (window.start, window.end, sorted(window.values), window.index, later, timing, window.finished)
        )
        window.index += 1
        if not self.accumulating or window.finished:
            window.values = []
