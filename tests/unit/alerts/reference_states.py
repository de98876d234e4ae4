"""What states are by definition: one event, one rule, one key at a time."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.alerts import AlertRule
from thalweg.durations import milliseconds


@dataclass
class Known:
    """A state under way."""

    since: int
    last: int
    firing: bool = False
    ended: int | None = None


class Reference:
    """Follows states; `happened` has (kind, rule, key, at, began) of each beginning and end."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, str, str, int, int]] = []
        self.states: dict[tuple[str, str], Known] = {}

    def event(self, rule: AlertRule, key: str, time: int, watermark: int, holds: bool, clears: bool | None) -> None:
        """An event of a key; `clears`: what the rule's second condition says, where it has one."""
        state = self.states.get((rule.id, key))
        if rule.absent is not None and not holds:
            return
        if state is not None:
            if time < state.last:
                return
            self._until(rule, key, state, watermark)
            state = self.states.get((rule.id, key))
        if rule.absent is not None:
            self._seen(rule, key, state, time)
        elif clears if clears is not None else not holds:
            self._ends(rule, key, state, time)
        elif holds:
            if state is None:
                state = self.states[rule.id, key] = Known(time, time)
            state.ended, state.last = None, time
            self._until(rule, key, state, time)
        elif state is not None:
            state.last = time
            if not state.firing:
                del self.states[rule.id, key]

    def time(self, now: int, rules: list[AlertRule]) -> None:
        """Time alone."""
        for rule in rules:
            for (id, key), state in list(self.states.items()):
                if id == rule.id:
                    self._until(rule, key, state, now)

    def _seen(self, rule: AlertRule, key: str, state: Known | None, time: int) -> None:
        if state is None:
            self.states[rule.id, key] = Known(time, time)
            return
        self._until(rule, key, state, time)
        if state.firing:
            self._say("over" if rule.resolve_ms is None else "resolved", rule, key, time, state)
        state.firing, state.last, state.since = False, time, time

    def _ends(self, rule: AlertRule, key: str, state: Known | None, time: int) -> None:
        if state is None:
            return
        self._until(rule, key, state, time)
        state.last = time
        if not state.firing:
            del self.states[rule.id, key]
            return
        time = max(time, state.since + rule.hold_ms)
        if state.ended is None:
            state.ended = time
            if rule.resolve_ms is None:
                del self.states[rule.id, key]
                self._say("over", rule, key, time, state)
                return
        self._until(rule, key, state, time)

    def _until(self, rule: AlertRule, key: str, state: Known, now: int) -> None:
        if rule.absent is not None:
            due = state.last + milliseconds(rule.absent)
            if not state.firing and now >= due:
                state.firing, state.since = True, due
                self._say("begun", rule, key, due, state)
            return
        begins = state.since + rule.hold_ms
        if not state.firing and now >= begins:
            state.firing = True
            self._say("begun", rule, key, begins, state)
        if state.ended is not None and rule.resolve_ms is not None and now >= state.ended + rule.resolve_ms:
            self._say("resolved", rule, key, state.ended + rule.resolve_ms, state)
            self.states.pop((rule.id, key), None)

    def _say(self, kind: str, rule: AlertRule, key: str, at: int, state: Known) -> None:
        self.happened.append((kind, rule.id, key, at, state.since))
