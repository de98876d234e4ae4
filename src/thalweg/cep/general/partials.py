"""The partial matches of one pattern whose conditions ask for the partial match, for all keys: event by event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.cep.found import Found, Held, HeldTable, Match, MatchTable, Offered
from thalweg.cep.general.after_match import Completed
from thalweg.cep.general.automaton import build
from thalweg.cep.general.begins import Beginnings
from thalweg.cep.general.runs import KeyRuns, Machine, Run, Taken, in_order
from thalweg.cep.pattern import Pattern, flatten, plain_part, takes_match
from thalweg.expressions import Row, iter_rows
from thalweg.records import Int64s

WAITING = -1
"""In saved state, the state number of a complete match that waits for an older partial match to end."""


class GeneralPartials:
    """Moves one pattern's partial matches, key by key and event by event, in Python. See `CompiledPartials` for others.

    Cost per event of a key that has partial matches, or that may begin one: about ten microseconds and as many steps as
    the key has partial matches; others cost a few nanoseconds. A heap of deadlines finds the keys whose partial matches
    end by time alone.

    Args:
        pattern: any pattern.
        bit_of: the bit of a condition in the events' masks.
        event: gives a stored event by its id, for iterative conditions after a restart.
        timeouts: whether partial matches that time out are wanted.
        most: how many partial matches a key may have; beyond, the oldest are ended, and counted.
    """

    def __init__(
        self,
        pattern: Pattern,
        bit_of: Callable[[Any], int],
        event: Callable[[int], Row],
        *,
        timeouts: bool = False,
        most: int | None = None,
    ) -> None:
        self.pattern = pattern
        self.dropped = 0
        self._most = most
        automaton = build(pattern, bit_of)
        self.every_event = automaton.needs_all
        conditions = [step.condition for step in flatten(pattern.steps) if not step.contiguity.negative]
        self.takes_any = any(c is None or (takes_match(c) and plain_part(c) is None) for c in conditions)
        self._iterative = automaton.iterative
        self._machine = Machine(pattern, automaton)
        self._begin = Beginnings(automaton.start)
        self._event = event
        self._timeouts = timeouts
        self._keys: dict[int, KeyRuns] = {}
        self._deadlines: list[tuple[int, int]] = []
        """(deadline, key code), at most one that counts for each key: that in `_scheduled`."""
        self._scheduled: dict[int, int] = {}

    @property
    def alive(self) -> int:
        """How many partial matches there are."""
        return sum(len(key.runs) + len(key.waiting) for key in self._keys.values())

    def advance(self, events: Offered) -> Found:
        """Takes events in time order; gives the matches, and the partial matches that they found timed out."""
        matter = self._begin.matter(events.codes, events.masks, self.keys_alive(events.keys))
        rows = list(iter_rows(events.rows[events.places[matter]])) if self._iterative else [None] * len(matter)
        matches: list[Match] = []
        timed_out: list[Match] = []
        given = (events.codes, events.times, events.masks, events.ids)
        columns = (*(column[matter].tolist() for column in given), rows)
        for code, time, mask, event, row in zip(*columns, strict=True):
            key = self._keys.get(code)
            if key is None:
                key = KeyRuns()
            else:
                self._end(key, time, matches, timed_out)
            complete = self._machine.process(key, time, mask, event, row)
            matches += [_match(found, event) for found in complete]
            self._bound(key)
            self._file(code, key)
        return _found(matches, timed_out)

    def _bound(self, key: KeyRuns) -> None:
        if self._most is not None and len(key.runs) > self._most:
            self.dropped += len(key.runs) - self._most
            key.runs = key.runs[-self._most :]

    def expire(self, watermark: int, *, looks: bool = True) -> Found:
        """Ends the partial matches that no event from `watermark` on can complete."""
        matches: list[Match] = []
        timed_out: list[Match] = []
        changed: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= watermark:
            deadline, code = heappop(self._deadlines)
            if self._scheduled.get(code) != deadline:
                continue
            del self._scheduled[code]
            key = self._keys.get(code)
            if key is not None:
                before = len(matches) + len(timed_out)
                self._end(key, watermark, matches, timed_out)
                self._file(code, key)
                if len(matches) + len(timed_out) > before:
                    changed.append(code)
        matches.sort(key=_by_time)
        timed_out.sort(key=_by_time)
        return _found(matches, timed_out, changed)

    def _end(self, key: KeyRuns, time: int, matches: list[Match], timed_out: list[Match]) -> None:
        complete, ended = self._machine.expire(key, time)
        matches += [_match(found, -1) for found in complete]
        if self._timeouts:
            seen = set()
            for run in ended:
                match = _match(Completed(run.start, run.first, run.taken, self._machine.deadline(run) or time), -1)
                events = (match.steps, match.ids)
                if events not in seen:  # states of one loop may hold the same events
                    seen.add(events)
                    timed_out.append(match)

    def _file(self, code: int, key: KeyRuns) -> None:
        """Keeps what a key has, if anything, and sees that it ends in time."""
        if not key:
            self._keys.pop(code, None)
            return
        self._keys[code] = key
        deadline = min((d for run in key.runs if (d := self._machine.deadline(run)) is not None), default=None)
        if deadline is not None and deadline < self._scheduled.get(code, deadline + 1):
            self._scheduled[code] = deadline
            heappush(self._deadlines, (deadline, code))

    # -- what the engine asks

    def keys_alive(self, keys: int) -> npt.NDArray[np.bool_]:
        """For each code below `keys`, whether it has partial matches."""
        alive = np.zeros(keys, np.bool_)
        alive[[code for code in self._keys if code < keys]] = True
        return alive

    def referenced(self) -> Int64s:
        """The ids of all events that partial matches hold."""
        ends = [run.taken for key in self._keys.values() for run in key.runs]
        ends += [match.taken for key in self._keys.values() for match in key.waiting]
        held = {taken.id for end in ends for taken in in_order(end)}
        return np.array(sorted(held), dtype=np.int64)

    def renumber(self, new_code: Int64s, keys: int) -> None:
        """Gives keys new codes: `new_code[old]`, or -1 for keys that have nothing here."""
        self._keys = {int(new_code[code]): key for code, key in self._keys.items()}
        scheduled = {int(new_code[code]): due for code, due in self._scheduled.items() if new_code[code] >= 0}
        self._scheduled = scheduled
        self._deadlines = [(due, code) for code, due in scheduled.items()]
        heapify(self._deadlines)

    def held(self, codes: Int64s) -> HeldTable:
        """The partial matches of these keys, for the state."""
        found = []
        for code in codes.tolist():
            key = self._keys.get(code)
            if key is None:
                continue
            items: list[Run | Completed] = [*key.runs, *key.waiting]
            for item in items:
                taken = in_order(item.taken)
                state = item.state if isinstance(item, Run) else WAITING
                steps, ids = [t.step for t in taken], [t.id for t in taken]
                found.append(Held(code, state, item.start, steps, ids))
        return HeldTable.of(found)

    def put(self, held: Held, last: int, keys: int) -> None:
        """Takes back a partial match; `last` is the time of its last event."""
        taken: Taken | None = None
        for step, event in zip(held.steps, held.ids, strict=True):
            taken = Taken(taken, step, event, self._event(event) if self._iterative else None)
        assert taken is not None
        key = self._keys.get(held.code) or KeyRuns()
        if held.state == WAITING:
            key.waiting.append(Completed(held.start, held.ids[0], taken))
        else:
            key.runs.append(Run(held.state, held.start, held.ids[0], last, taken))
        self._file(held.code, key)


def _found(matches: list[Match], timed_out: list[Match], codes: Sequence[int] = ()) -> Found:
    return Found(
        MatchTable.of(matches) if matches else None,
        MatchTable.of(timed_out) if timed_out else None,
        np.array(codes, dtype=np.int64),
    )


def _match(found: Completed, trigger: int) -> Match:
    taken = in_order(found.taken)
    return Match(found.time, trigger, tuple(t.step for t in taken), tuple(t.id for t in taken))


def _by_time(match: Match) -> tuple[int, int]:
    return match.time, match.ids[0]
