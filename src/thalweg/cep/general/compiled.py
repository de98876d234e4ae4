"""The partial matches of one pattern in the general engine's kernel, for all keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.cep.found import Found, Held, HeldTable, MatchTable, Offered
from thalweg.cep.general.after_match import SkipFailed
from thalweg.cep.general.automaton import build
from thalweg.cep.general.table import MoveTable
from thalweg.cep.pattern import Pattern, Skip, flatten
from thalweg.records import Int64s

NONE = -1
WAITING = -1
"""In saved state, the state number of a complete match that waits for an older partial match to end."""
UNBOUNDED = 2**62


class CompiledPartials:
    """Moves one pattern's partial matches by a table, in Numba.

    Cost per event that reaches it: tens of nanoseconds, and as many for each partial match of its key. Memory: 48 bytes
    per partial match, 32 per event that any holds, however many hold it.

    Args:
        pattern: any whose conditions look at the event alone.
        bit_of: the bit of a condition in the events' masks.
        bits: how many conditions the pattern has.
        timeouts: whether partial matches that time out are wanted.
        most: how many partial matches a key may have; beyond, the oldest are ended, and counted.
    """

    takes_any = False

    def __init__(
        self,
        pattern: Pattern,
        bit_of: Callable[[Any], int],
        bits: int,
        *,
        timeouts: bool = False,
        most: int | None = None,
    ) -> None:
        self.pattern = pattern
        automaton = build(pattern, bit_of)
        self.every_event = automaton.needs_all
        self.takes_any = any(s.condition is None for s in flatten(pattern.steps) if not s.contiguity.negative)
        self._table = MoveTable(automaton, bits)
        self._absences: Int64s = np.array(automaton.absences, dtype=np.int64)
        self._settings = _settings(pattern, timeouts, most)
        self._timeouts = timeouts
        r = _rows()
        self._counters: Int64s = np.zeros(r.COUNTERS, np.int64)
        self._counters[[r.FREE_RUN, r.FREE_TAKEN]] = NONE
        self._keys: npt.NDArray[np.int64] = _keys(1)
        self._runs: npt.NDArray[np.int64] = np.zeros((0, r.RUN_WIDTH), np.int64)
        self._taken: npt.NDArray[np.int64] = np.zeros((0, r.TAKEN_WIDTH), np.int64)
        self._heap: npt.NDArray[np.int64] = np.zeros((256, 2), np.int64)
        self._out: npt.NDArray[np.int64] = np.zeros((256, r.OUT_WIDTH), np.int64)
        self._shared: dict[tuple[int, int, int], int] = {}
        """While partial matches are put back: taken events by what they follow, so that beginnings are shared again."""

    @property
    def alive(self) -> int:
        """How many partial matches there are."""
        return int(self._counters[_rows().ALIVE])

    @property
    def dropped(self) -> int:
        """Partial matches ended because their key had too many."""
        return int(self._counters[_rows().DROPPED])

    # -- events and time

    def advance(self, events: Offered) -> Found:
        """Takes events in time order; gives the matches, and the partial matches that they found timed out."""
        self._shared = {}
        self._key_room(events.keys)
        kinds = self._table.kinds(events.masks)
        self._settings[_kernel().FAN_OUT] = self._table.fan_out
        given = [np.ascontiguousarray(a, dtype=np.int64) for a in (events.codes, events.times, kinds, events.ids)]
        row, tables = 0, []
        while True:
            row = _kernel().advance(
                *given, row, self._keys, self._runs, self._taken, self._heap, self._out,
                self._table.spans, self._table.moves, self._absences, self._settings, self._counters,
            )  # fmt: skip
            self._check()
            tables.append(self._take_out(in_order=False))
            if row >= len(kinds):
                return _together(tables)
            self._room(int(events.codes[row]))

    def expire(self, watermark: int, *, looks: bool = True) -> Found:
        """Ends the partial matches that no event from `watermark` on can complete."""
        tables = []
        while True:
            done = _kernel().expire(
                watermark, self._keys, self._runs, self._taken, self._heap, self._out,
                self._absences, self._settings, self._counters,
            )  # fmt: skip
            self._check()
            tables.append(self._take_out(in_order=True))
            if done:
                return _together(tables)
            self._room(int(self._heap[0, 1]))

    def _check(self) -> None:
        k = _kernel()
        r = _rows()
        failed = int(self._counters[r.FAILED])
        if failed == k.NO_EVENT_TO_SKIP_TO:
            raise SkipFailed(f"a match has no event for step {self.pattern.after_match.step!r}, to which it is to skip")
        if failed == k.SKIPS_TO_ITSELF:
            raise SkipFailed(f"a match can't skip to its own first event (step {self.pattern.after_match.step!r})")

    def _take_out(self, *, in_order: bool) -> Found:
        """What the kernel told; by the time at which it became certain, where keys were looked at one by one."""
        r = _rows()
        found = int(self._counters[r.FOUND])
        if not found:
            return Found()
        self._counters[r.FOUND] = 0
        rows = self._out[:found].copy()
        if in_order:
            rows = rows[np.lexsort((rows[:, r.OUT_FIRST], rows[:, r.TIME]))]
        late = rows[:, r.TIMED_OUT] == 1
        result = Found(
            self._table_of(rows[~late]),
            self._timed_out(rows[late]),
            np.unique(rows[:, r.CODE]) if in_order else _no_codes(),
        )
        r.release_all(self._taken, self._counters, np.ascontiguousarray(rows[:, r.OUT_TAKEN]))
        return result

    def _table_of(self, rows: npt.NDArray[np.int64]) -> MatchTable | None:
        r = _rows()
        if not len(rows):
            return None
        sizes, steps, ids = self._unrolled(np.ascontiguousarray(rows[:, r.OUT_TAKEN]))
        return MatchTable(sizes, rows[:, r.TRIGGER], rows[:, r.TIME], steps, ids)

    def _timed_out(self, rows: npt.NDArray[np.int64]) -> MatchTable | None:
        """Each once: states of one loop may hold the same events."""
        table = self._table_of(rows)
        if table is None:
            return None
        ends = np.cumsum(table.sizes)
        seen: set[tuple[bytes, bytes]] = set()
        once = np.zeros(len(table), np.bool_)
        for number, (start, end) in enumerate(zip((ends - table.sizes).tolist(), ends.tolist(), strict=True)):
            events = table.steps[start:end].tobytes(), table.ids[start:end].tobytes()
            once[number] = events not in seen
            seen.add(events)
        return table if once.all() else self._table_of(rows[once])

    def _unrolled(self, nodes: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        sizes = np.empty(len(nodes), np.int64)
        total = _rows().sizes_of(self._taken, nodes, sizes)
        steps, ids = np.empty(total, np.int64), np.empty(total, np.int64)
        _rows().unroll(self._taken, nodes, sizes, steps, ids)
        return sizes, steps, ids

    # -- what the engine asks

    def keys_alive(self, keys: int) -> npt.NDArray[np.bool_]:
        """For each code below `keys`, whether it has partial matches."""
        alive = np.zeros(keys, np.bool_)
        known = min(keys, len(self._keys))
        alive[:known] = self._keys[:known, _rows().HEAD] != NONE
        return alive

    def referenced(self) -> Int64s:
        """The ids of all events that partial matches hold, some of them repeatedly."""
        r = _rows()
        ids: Int64s = self._taken[self._taken[:, r.REFERENCES] > 0, r.ID]
        return ids

    def renumber(self, new_code: Int64s, keys: int) -> None:
        """Gives keys new codes: `new_code[old]`, or -1 for keys that have nothing here."""

        old = np.flatnonzero(new_code[: len(self._keys)] >= 0)
        renewed = _keys(max(keys, 1))
        renewed[new_code[old]] = self._keys[old]
        self._keys = renewed
        self._queue_again()

    def held(self, codes: Int64s) -> HeldTable:
        """The partial matches of these keys, for the state."""
        r = _rows()
        known = np.ascontiguousarray(codes[codes < len(self._keys)], dtype=np.int64)
        room = int(self._keys[known][:, [r.RUNS, r.WAITING]].sum())
        found, owners = np.empty(room, np.int64), np.empty(room, np.int64)
        r.runs_of(known, self._keys, self._runs, found, owners)
        rows = self._runs[found]
        sizes, steps, ids = self._unrolled(np.ascontiguousarray(rows[:, r.TAKEN]))
        return HeldTable(owners, rows[:, r.STATE], rows[:, r.START], sizes, steps, ids)

    def put(self, held: Held, last: int, keys: int) -> None:
        """Takes back a partial match; `last` is the time of its last event."""
        k = _kernel()
        r = _rows()
        self._key_room(keys)
        self._room(held.code, len(held.ids) + 1)
        node = NONE
        for step, event in zip(held.steps, held.ids, strict=True):
            known = self._shared.get((node, step, event))
            if known is None:
                known = self._shared[node, step, event] = r.take(self._taken, self._counters, node, step, event)
                self._taken[known, r.REFERENCES] = 0  # the caller's reference is given up: a partial match will hold it
            node = known
        run = r.new_run(self._runs, self._taken, self._counters, held.state, held.start, held.ids[0], last, node)
        self._counters[r.ALIVE] += 1
        if held.state == WAITING:
            r.append_waiting(self._keys, self._runs, held.code, run)
        else:
            r.append(self._keys, self._runs, held.code, run)
            k.schedule(self._keys, self._runs, self._heap, self._absences, self._settings, self._counters, held.code)

    # -- room

    def _key_room(self, keys: int) -> None:
        if keys > len(self._keys):
            self._keys = np.concatenate([self._keys, _keys(max(keys, 2 * len(self._keys)) - len(self._keys))])

    def _room(self, code: int, events: int = 0) -> None:
        """Makes room for what the next event of a key can bring."""
        r = _rows()
        runs, waiting = int(self._keys[code, r.RUNS]), int(self._keys[code, r.WAITING])
        need = (runs + 1) * self._table.fan_out + events
        if self._counters[r.RUNS_LEFT] < need:
            self._runs = self._grown(self._runs, need, r.FREE_RUN, r.RUNS_LEFT)
        if self._counters[r.TAKEN_LEFT] < need:
            self._taken = self._grown(self._taken, need, r.FREE_TAKEN, r.TAKEN_LEFT)
        if len(self._out) < runs + waiting + need:
            self._out = np.zeros((2 * (runs + waiting + need), r.OUT_WIDTH), np.int64)
        if self._counters[r.QUEUED] >= len(self._heap):
            self._queue_again()

    def _grown(self, rows: npt.NDArray[np.int64], need: int, free: int, left: int) -> npt.NDArray[np.int64]:
        """More rows; the new ones become the unused ones, the first of them first."""
        size = len(rows)
        extra = max(size, need, 256)
        grown = np.concatenate([rows, np.zeros((extra, rows.shape[1]), np.int64)])
        grown[size:, 0] = np.append(np.arange(size + 1, size + extra), self._counters[free])
        self._counters[free] = size
        self._counters[left] += extra
        return grown

    def _queue_again(self) -> None:
        """The deadlines anew, without those that no longer count; sorted rows are a heap."""
        r = _rows()
        codes = np.flatnonzero(self._keys[:, r.DUE] != NONE)
        due = self._keys[codes, r.DUE]
        order = np.argsort(due, kind="stable")
        self._heap = np.zeros((max(256, 2 * len(codes) + 1), 2), np.int64)
        self._heap[: len(codes), 0], self._heap[: len(codes), 1] = due[order], codes[order]
        self._counters[r.QUEUED] = len(codes)


def _keys(count: int) -> npt.NDArray[np.int64]:
    r = _rows()
    rows: npt.NDArray[np.int64] = np.full((count, r.KEY_WIDTH), NONE, np.int64)
    rows[:, [r.RUNS, r.WAITING]] = 0
    return rows


def _settings(pattern: Pattern, timeouts: bool, most: int | None) -> Int64s:
    k = _kernel()
    settings: Int64s = np.zeros(k.SETTINGS, np.int64)
    settings[k.WITHIN] = NONE if pattern.within is None else pattern.within
    settings[k.MAX_GAP] = NONE if pattern.max_gap is None else pattern.max_gap
    strategies = {Skip.NONE: k.NO_SKIP, Skip.TO_NEXT: k.TO_NEXT, Skip.PAST_LAST: k.PAST_LAST}
    strategies |= {Skip.TO_FIRST: k.TO_FIRST, Skip.TO_LAST: k.TO_LAST}
    settings[k.STRATEGY] = strategies[pattern.after_match.strategy]
    target = pattern.after_match.step
    settings[k.SKIP_STEP] = NONE if target is None else pattern.step_names.index(target)
    settings[k.REQUIRED] = pattern.after_match.required
    settings[k.TELLS_TIMEOUTS] = timeouts
    settings[k.MOST] = UNBOUNDED if most is None else most
    return settings


def _no_codes() -> Int64s:
    return np.empty(0, np.int64)


def _together(parts: list[Found]) -> Found:
    if len(parts) == 1:
        return parts[0]
    return Found(
        _concat([p.matches for p in parts if p.matches is not None]),
        _concat([p.timed_out for p in parts if p.timed_out is not None]),
        np.unique(np.concatenate([p.codes for p in parts])),
    )


def _concat(tables: list[MatchTable]) -> MatchTable | None:
    return MatchTable.together(tables) if tables else None


def _kernel() -> Any:
    from thalweg.cep.general import _kernel as kernel

    return kernel


def _rows() -> Any:
    from thalweg.cep.general import _rows as rows

    return rows
