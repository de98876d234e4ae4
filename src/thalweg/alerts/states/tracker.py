"""Follows the states that rules watch: when they begin, go on, and end.

A state belongs to a rule and a fingerprint. Time moves by the events of the fingerprint and by the watermark just
before each of them, so the same events give the same changes however they were cut into batches. While a state is under
way, an event that is older than the one before it of the same fingerprint is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import polars as pl

from thalweg.alerts.evaluate import RuleSet, Verdicts
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.states.changes import Change, ChangeKind, Followed
from thalweg.alerts.states.keys import Place, key_of
from thalweg.alerts.states.layout import BEGUN, RULE, SETTINGS
from thalweg.alerts.states.saved import followed, frame_of, frame_of_followed, gone_frame, latest, states_of
from thalweg.alerts.states.table import Happened, Held, Rows, StateTable
from thalweg.durations import milliseconds
from thalweg.records import Int64s
from thalweg.streams.state.key_groups import key_groups

Columns = tuple[str, ...]
_KINDS = (ChangeKind.BEGUN, ChangeKind.GOES_ON, ChangeKind.OVER, ChangeKind.RESOLVED)


@dataclass(frozen=True)
class _Plan:
    """The rules of a set that watch states, by the columns of their fingerprints.

    Attributes:
        keys: of the stream.
        clear: by rule's number, its place in `clearing`; -1: it has no condition that ends its states.
        clearing: the ids of rules that have one.
    """

    keys: Columns
    by_columns: Mapping[Columns, Sequence[AlertRule]]
    clear: Mapping[int, int]
    clearing: Sequence[str]

    def places(self, count: int) -> Int64s:
        """`clear` as an array for so many rules; -2: the rule is not of this set."""
        found = np.full(count, -2, np.int64)
        found[list(self.clear)] = list(self.clear.values())
        return found


class StateTracker:
    """The states of one step of a stream, or of events given to a manager directly."""

    def __init__(self) -> None:
        self._table = StateTable()
        self._numbers: dict[str, int] = {}
        self._ids: list[str] = []
        self._by: list[Columns] = []
        self._plans: WeakKeyDictionary[RuleSet, _Plan] = WeakKeyDictionary()
        self._rules: dict[str, AlertRule] = {}

    def __len__(self) -> int:
        return self._table.count

    @property
    def bytes(self) -> int:
        """The size of its state, about."""
        return self._table.bytes

    # -- events and time

    def follow(self, frame: pl.DataFrame, rules: RuleSet, verdicts: Verdicts, keys: Sequence[str]) -> list[Change]:
        """What a batch does to states, in the order of event times."""
        if not rules.watching or not frame.height:
            return []
        plan = self._plan(rules, tuple(keys))
        failed = np.zeros(frame.height, np.bool_)
        failed[list(verdicts.failed)] = True
        rows = Rows(frame, key_groups(frame, list(keys)), failed)
        nowhere = np.zeros(-(-frame.height // 8), np.uint8)
        ends = np.array([verdicts.clears.get(id, nowhere) for id in plan.clearing], np.uint8).reshape(-1, len(nowhere))
        clear = plan.places(len(self._ids))
        found: list[Change] = []
        for by, mine in plan.by_columns.items():
            held = self._held(by, mine, verdicts)
            if len(held.rules) or self._table.count:
                found += self._changes(self._table.follow(rows, held, clear, ends))
        return sorted(found, key=lambda change: change.at)

    def on_time(self, now: int, rules: Mapping[str, AlertRule]) -> list[Change]:
        """What time alone brings about: states that have held, absences, and ends that have lasted long enough."""
        found = self._changes(self._table.pass_time(now))
        return sorted(
            (change for change in found if change.rule in rules),
            key=lambda change: (change.at, change.rule, change.fingerprint),
        )

    def _held(self, by: Columns, rules: Sequence[AlertRule], verdicts: Verdicts) -> Held:
        mine = [(rule.id, verdicts.holds[rule.id]) for rule in rules if rule.id in verdicts.holds]
        numbers = np.array([self._numbers[id] for id, _ in mine], np.int64)
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in mine)])
        return Held(by, numbers, rows, np.cumsum([0, *(len(rows) for _, rows in mine)]))

    def _changes(self, happened: Happened) -> list[Change]:
        found, events = [], {number: msgspec.json.decode(text) for number, text in happened.events.items()}
        for kind, rule, code, at, began, count, row, event in happened.changes.tolist():
            fingerprint = self._fingerprint(rule, happened.keys[code])
            of = events[event] if kind == BEGUN else {}
            found.append(Change(_KINDS[kind], self._ids[rule], fingerprint, at, began, of, count, row))
        return found

    def _fingerprint(self, rule: int, place: Place) -> str:
        by, key = place
        return self._rules[self._ids[rule]].fingerprint(dict(zip(by, key, strict=True)))

    # -- rules

    def _plan(self, rules: RuleSet, keys: Columns) -> _Plan:
        known = self._plans.get(rules)
        if known is not None and known.keys == keys:
            return known
        by_columns: dict[Columns, list[AlertRule]] = {}
        for rule in rules.watching:
            by = columns_of(rule, keys)
            self._register(rule, by)
            by_columns.setdefault(by, []).append(rule)
        clearing = [rule.id for rule in rules.watching if rule.clear is not None]
        places = {id: place for place, id in enumerate(clearing)}
        clear = {self._numbers[rule.id]: places.get(rule.id, -1) for rule in rules.watching}
        plan = _Plan(keys, by_columns, clear, clearing)
        self._plans[rules] = plan
        return plan

    def _register(self, rule: AlertRule, by: Columns) -> int:
        """The number of a rule; what it says now counts from now on. Where its fingerprints are made of other columns
        than before, the states of the old ones are forgotten."""
        number = self._numbers.setdefault(rule.id, len(self._ids))
        if number == len(self._ids):
            self._ids.append(rule.id)
            self._by.append(by)
            self._table.settings = np.vstack([self._table.settings, np.zeros((1, SETTINGS), np.int64)])
        elif self._by[number] != by:
            self._table.drop(number)
            self._by[number] = by
        self._rules[rule.id] = rule
        resolve = -1 if rule.resolve_ms is None else rule.resolve_ms
        absent = -1 if rule.absent is None else milliseconds(rule.absent)
        self._table.settings[number] = rule.hold_ms, resolve, absent
        return number

    # -- state

    def changed(self) -> tuple[list[Followed], set[tuple[str, str]]]:
        """The states that changed since the last call, and rule and fingerprint of those that are gone."""
        slots, gone = self._table.take_changed()
        states = self._followed(slots)
        ended = {
            (self._ids[rule], self._fingerprint(rule, one.keys[which]))
            for one in gone
            for rule, which in zip(one.rules.tolist(), one.which.tolist(), strict=True)
        }
        return states, ended - {(state.rule, state.fingerprint) for state in states}

    def all(self) -> list[Followed]:
        """Every state under way."""
        return self._followed(self._table.all())

    def _followed(self, slots: Int64s) -> list[Followed]:
        found, states = [], self._table.columns(slots)
        for row, event, which in zip(states.rows, states.events, states.which.tolist(), strict=True):
            number, place = int(row[RULE]), states.keys[which]
            found.append(followed(row, self._ids[number], self._fingerprint(number, place), event, place[1]))
        return found

    def snapshot(self, *, full: bool) -> pl.DataFrame | None:
        """The states that changed since the last call (those that are gone, too), or all; None: there are none."""
        slots, gone = self._table.take_changed()
        frame = frame_of(self._ids, self._table.columns(self._table.all() if full else slots))
        if gone and not full:  # what has begun anew comes after
            frame = pl.concat([*(gone_frame(self._ids, one) for one in gone), frame])
        return frame if frame.height else None

    def load(self, frames: Sequence[pl.DataFrame], rules: Mapping[str, AlertRule], keys: Sequence[str]) -> None:
        """Takes back what snapshots gave, oldest first; states of rules that are no more are dropped, and so are those
        of rules whose fingerprints are made of other columns now."""
        rows = latest(frames)
        by = {rule.id: columns_of(rule, keys) for rule in rules.values() if rule.tracked}
        known = [id for id in rows.get_column("rule").unique().to_list() if id in by]
        self._table.put(states_of(rows, by, {id: self._register(rules[id], by[id]) for id in known}))

    def restore(self, states: Iterable[Followed], rules: Mapping[str, AlertRule], keys: Sequence[str] = ()) -> None:
        """The same of states one by one."""
        known = [state for state in states if state.rule in rules]
        own = [
            state.key or key_of(state.event.get(name) for name in columns_of(rules[state.rule], keys))
            for state in known
        ]
        self.load([frame_of_followed(known, own)], rules, keys)


def columns_of(rule: AlertRule, keys: Sequence[str]) -> Columns:
    """The columns that a rule's fingerprints are made of, on a stream by these keys."""
    return tuple(keys if rule.by is None else rule.by)
