"""Follows the states that rules watch: when they begin, go on, and end.

A state belongs to a rule and a fingerprint. Time moves by the events of the fingerprint and by the watermark just
before each of them, so the same events give the same changes however they were cut into batches. An event that is older
than the one before it of the same fingerprint is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import heappop, heappush
from typing import Any

import polars as pl

from thalweg.alerts.rules import AlertRule
from thalweg.alerts.states.index import Followed, StateIndex
from thalweg.alerts.states.runs import Keyed, Run
from thalweg.durations import milliseconds

TELL_EVERY = 10_000
"""ms of event time: how often an alert learns that its state goes on."""


class ChangeKind(StrEnum):
    """What happened to a state."""

    BEGUN = "begun"
    GOES_ON = "goes on"
    OVER = "over"
    """It has ended; its alert stays open until somebody resolves it."""
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Change:
    """One change of a state, at an event time."""

    kind: ChangeKind
    rule: str
    fingerprint: str
    at: int
    began: int
    """When the state began: with rule and fingerprint it names the alert."""
    event: Mapping[str, Any]
    """The event that began it (of an absence: the last one seen)."""
    count: int = 0
    """GOES_ON: further events since the last time."""
    row: int = -1
    """The row that caused it; -1: time did."""


class StateTracker:
    """The states of one step of a stream, or of events given to a manager directly."""

    def __init__(self) -> None:
        self._states = StateIndex()
        self._due: list[tuple[int, str, str]] = []
        self._queued: dict[tuple[str, str], int] = {}
        self._changed: set[tuple[str, str]] = set()
        self._gone: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return len(self._states)

    def among(self, rule: AlertRule, by: Sequence[str], keyed: Keyed) -> Mapping[int, Followed]:
        """The states of a rule that a batch is about, by the batch's codes."""
        return self._states.among(rule, by, keyed)

    def on_run(self, rule: AlertRule, run: Run) -> list[Change]:
        """Takes a run of events of one fingerprint among which the conditions do not change."""
        key = (rule.id, run.fingerprint)
        state = self._states.get(*key)
        changes = self._until(rule, state, run.watermark, -1) if state is not None else []
        state = self._states.get(*key)
        changes += (
            self._absence(rule, key, state, run) if rule.absent is not None else self._state(rule, key, state, run)
        )
        self._changed.add(key)
        return changes

    def on_time(self, now: int, rules: Mapping[str, AlertRule]) -> list[Change]:
        """What time alone brings about: states that have held, absences, and ends that have lasted long enough."""
        changes: list[Change] = []
        while self._due and self._due[0][0] <= now:
            due, rule_id, fingerprint = heappop(self._due)
            if self._queued.get((rule_id, fingerprint)) != due:
                continue  # it was put earlier since
            del self._queued[rule_id, fingerprint]
            state, rule = self._states.get(rule_id, fingerprint), rules.get(rule_id)
            if state is None or rule is None or (real := _due_of(rule, state)) is None:
                continue
            if real > due:
                self._schedule(state, real)
            else:
                changes += self._until(rule, state, now, -1)
        return changes

    # -- states that hold

    def _state(self, rule: AlertRule, key: tuple[str, str], state: Followed | None, run: Run) -> list[Change]:
        if run.ends:
            return [] if state is None else self._end(rule, key, state, run)
        if not run.holds:  # between the two conditions: neither begins nor ends; what had yet to hold has not
            if state is not None and not state.firing:
                self._forget(key)
            return []
        changes: list[Change] = []
        if state is None:
            state = Followed(rule.id, run.fingerprint, run.group, run.first, run.first, dict(run.event))
            self._states.put(state)
            self._schedule(state, run.first + rule.hold_ms)
            state.more = run.count - 1
        else:
            state.more += run.count
        state.ended, state.last = None, max(state.last, run.last)
        changes += self._until(rule, state, run.last, run.row)
        if state.firing and state.more and run.last - state.told >= TELL_EVERY:
            changes.append(self._goes_on(state, run.last, run.row))
        return changes

    def _end(self, rule: AlertRule, key: tuple[str, str], state: Followed, run: Run) -> list[Change]:
        # An event at the very end of the hold proves that the condition has held until then.
        changes = self._until(rule, state, run.first, run.row)
        state.last = max(state.last, run.last)
        if not state.firing:
            self._forget(key)
            return changes
        if state.more:
            changes.append(self._goes_on(state, run.first, run.row))
        if state.ended is None:
            state.ended = run.first
            if rule.resolve_ms is None:
                self._forget(key)
                return [*changes, _change(ChangeKind.OVER, state, run.first, run.row)]
            self._schedule(state, run.first + rule.resolve_ms)
        return changes + self._until(rule, state, run.last, run.row)

    def _until(self, rule: AlertRule, state: Followed | None, now: int, row: int) -> list[Change]:
        """What has become due up to `now` for one state."""
        if state is None:
            return []
        if rule.absent is not None:
            return self._missing(rule, state, now, row)
        changes = []
        begins = state.since + rule.hold_ms
        if not state.firing and now >= begins and state.ended is None:
            state.firing, state.told = True, begins
            changes.append(_change(ChangeKind.BEGUN, state, begins, row))
        if state.ended is not None and rule.resolve_ms is not None and now >= state.ended + rule.resolve_ms:
            self._forget((rule.id, state.fingerprint))
            changes.append(_change(ChangeKind.RESOLVED, state, state.ended + rule.resolve_ms, row))
        if changes:
            self._changed.add((rule.id, state.fingerprint))
        return changes

    def _goes_on(self, state: Followed, at: int, row: int) -> Change:
        change = replace(_change(ChangeKind.GOES_ON, state, at, row), count=state.more)
        state.more, state.told = 0, at
        return change

    # -- states of absence

    def _absence(self, rule: AlertRule, key: tuple[str, str], state: Followed | None, run: Run) -> list[Change]:
        if not run.holds:
            return []
        changes: list[Change] = []
        if state is None:
            state = Followed(rule.id, run.fingerprint, run.group, run.first, run.first, dict(run.latest))
            self._states.put(state)
        elif run.first >= state.last:
            changes += self._missing(rule, state, run.first, run.row)
        if state.firing:
            kind = ChangeKind.OVER if rule.resolve_ms is None else ChangeKind.RESOLVED
            changes.append(_change(kind, state, run.first, run.row))
            state.firing = False
        state.last = state.since = max(state.last, run.last)
        state.event = dict(run.latest)
        self._schedule(state, state.last + milliseconds(rule.absent or 0))
        return changes

    def _missing(self, rule: AlertRule, state: Followed, now: int, row: int) -> list[Change]:
        due = state.last + milliseconds(rule.absent or 0)
        if state.firing or now < due:
            return []
        state.firing, state.since = True, due
        self._changed.add((rule.id, state.fingerprint))
        return [_change(ChangeKind.BEGUN, state, due, row)]

    # -- keeping

    def _schedule(self, state: Followed, due: int) -> None:
        """Has time look at a state. One look is queued per state; it finds out if it is early."""
        key = (state.rule, state.fingerprint)
        if (queued := self._queued.get(key)) is None or due < queued:
            self._queued[key] = due
            heappush(self._due, (due, *key))

    def _forget(self, key: tuple[str, str]) -> None:
        if self._states.remove(*key):
            self._gone.add(key)

    def changed(self) -> tuple[list[Followed], set[tuple[str, str]]]:
        """The states that changed since the last call, and those that are gone."""
        states = [state for key in self._changed if (state := self._states.get(*key)) is not None]
        gone = {key for key in self._gone if self._states.get(*key) is None}
        self._changed, self._gone = set(), set()
        return states, gone

    def all(self) -> list[Followed]:
        """Every state under way."""
        return list(self._states)

    def restore(self, states: Iterable[Followed], rules: Mapping[str, AlertRule]) -> None:
        """Takes states back; those of rules that are no more are dropped."""
        for state in states:
            rule = rules.get(state.rule)
            if rule is None or not (rule.watches_state or rule.absent is not None):
                continue
            self._states.put(state)
            if (due := _due_of(rule, state)) is not None:
                self._schedule(state, due)


def _due_of(rule: AlertRule, state: Followed) -> int | None:
    """When time alone changes something about a state next."""
    if rule.absent is not None:
        return None if state.firing else state.last + milliseconds(rule.absent)
    if state.ended is not None:
        return None if rule.resolve_ms is None else state.ended + rule.resolve_ms
    return None if state.firing else state.since + rule.hold_ms


def _change(kind: ChangeKind, state: Followed, at: int, row: int) -> Change:
    return Change(kind, state.rule, state.fingerprint, at, state.since, dict(state.event), row=row)


def to_frame(states: Sequence[Followed]) -> pl.DataFrame:
    """States as rows, for snapshots."""
    import msgspec

    return pl.DataFrame(
        {
            "__kg": pl.Series([s.group for s in states], dtype=pl.UInt16),
            "id": pl.Series([f"{s.rule}\0{s.fingerprint}" for s in states], dtype=pl.String),
            "state": pl.Series([msgspec.json.encode(s, enc_hook=str) for s in states], dtype=pl.Binary),
        }
    )


def of_frame(frame: pl.DataFrame) -> list[Followed]:
    """The states of `to_frame`."""
    import msgspec

    return [msgspec.json.decode(body, type=Followed) for body in frame["state"]]
