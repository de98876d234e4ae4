"""States under way, by rule and fingerprint, and by the values that their fingerprints are made of.

A rule asks each batch which of its states the batch is about: that costs the smaller of its states and the batch's
distinct values, and nothing for the states of other rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.alerts.rules import AlertRule
from thalweg.alerts.states.runs import Keyed, key_of

Key = tuple[str, ...]


@dataclass
class Followed:
    """One state that is under way. `firing`: it has begun as far as the rule is concerned (it has held long enough)."""

    rule: str
    fingerprint: str
    group: int
    since: int
    last: int
    event: dict[str, Any] = field(default_factory=dict)
    firing: bool = False
    ended: int | None = None
    more: int = 0
    told: int = 0


@dataclass
class _OfRule:
    """The states of one rule; those in `unplaced` have yet to be found by their values."""

    states: dict[str, Followed] = field(default_factory=dict)
    by_key: dict[Key, str] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    unplaced: list[Followed] = field(default_factory=list)


class StateIndex:
    """States of any number of rules."""

    def __init__(self) -> None:
        self._rules: dict[str, _OfRule] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Followed]:
        for mine in self._rules.values():
            yield from mine.states.values()

    def get(self, rule: str, fingerprint: str) -> Followed | None:
        """The state of a rule and a fingerprint."""
        mine = self._rules.get(rule)
        return None if mine is None else mine.states.get(fingerprint)

    def put(self, state: Followed) -> None:
        """Adds a state, or replaces the one of its rule and fingerprint."""
        mine = self._rules.setdefault(state.rule, _OfRule())
        self._count += state.fingerprint not in mine.states
        mine.states[state.fingerprint] = state
        mine.unplaced.append(state)

    def remove(self, rule: str, fingerprint: str) -> bool:
        """Forgets a state; whether there was one."""
        mine = self._rules.get(rule)
        if mine is None or mine.states.pop(fingerprint, None) is None:
            return False
        self._count -= 1
        key = mine.keys.pop(fingerprint, None)
        if key is not None:
            mine.by_key.pop(key, None)
        return True

    def among(self, rule: AlertRule, by: Sequence[str], keyed: Keyed) -> Mapping[int, Followed]:
        """The rule's states that a batch is about, by the batch's codes."""
        mine = self._rules.get(rule.id)
        if mine is None or not mine.states:
            return {}
        self._place(mine, by)
        if len(mine.by_key) < len(keyed.places):
            codes = [(keyed.places[key], fp) for key, fp in mine.by_key.items() if key in keyed.places]
        else:
            codes = [(code, mine.by_key[key]) for key, code in keyed.places.items() if key in mine.by_key]
        return {code: mine.states[fp] for code, fp in codes}

    @staticmethod
    def _place(mine: _OfRule, by: Sequence[str]) -> None:
        for state in mine.unplaced:
            if mine.states.get(state.fingerprint) is state:
                key = key_of(state.event.get(name) for name in by)
                mine.by_key[key], mine.keys[state.fingerprint] = state.fingerprint, key
        mine.unplaced.clear()
