"""The partial matches of one pattern, for all keys, as typed arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.cep.found import Found, Held, HeldTable, MatchTable, Offered
from thalweg.cep.pattern import AfterMatch, Contiguity, Pattern, Step
from thalweg.records import Int64s, UInt64s

NONE = -1


class PartialMatches:
    """Advances one pattern over events; memory is linear in the partial matches alive.

    Args:
        pattern: what to look for.
        steps: its steps: a line.
        bits: for each step, the bit of its condition in the events' masks.
    """

    takes_any = False
    dropped = 0

    def __init__(self, pattern: Pattern, steps: Sequence[Step], bits: Sequence[int]) -> None:
        self.pattern = pattern
        places = [(step, number) for step in steps for number in range(step.quantifier.minimum)]
        numbers = {name: number for number, name in enumerate(pattern.step_names)}
        self._steps = np.array([numbers[step.name] for step, _ in places], dtype=np.int64)
        self.slots = len(places)
        by_step = dict(zip((step.name for step in steps), bits, strict=True))
        self._bits: UInt64s = np.array([1 << by_step[step.name] for step, _ in places], dtype=np.uint64)
        self._strict = np.array(
            [(step.quantifier.inner if number else step.contiguity) is Contiguity.STRICT for step, number in places]
        )
        self._strict[0] = False  # nothing comes before the first event
        self.every_event = bool(self._strict.any())
        self._head: Int64s = np.full(1, NONE, np.int64)
        self._tail: Int64s = np.full(1, NONE, np.int64)
        self._pool(256)

    def _pool(self, size: int) -> None:
        self._after: Int64s = np.full(size, NONE, np.int64)
        self._slot: Int64s = np.zeros(size, np.int64)
        self._start: Int64s = np.zeros(size, np.int64)
        self._events: npt.NDArray[np.int64] = np.full((size, self.slots), NONE, np.int64)
        self._free: Int64s = np.append(np.arange(size, dtype=np.int64), size)

    @property
    def alive(self) -> int:
        """How many partial matches there are."""
        return len(self._slot) - int(self._free[-1])

    def advance(self, events: Offered) -> Found:
        """Takes events in time order."""
        self._room(len(events.codes), events.keys)
        codes, times, ids = (np.ascontiguousarray(a) for a in (events.codes, events.times, events.ids))
        masks = np.ascontiguousarray(events.masks)
        within = self.pattern.within if self.pattern.within is not None else -1
        skip = self.pattern.after_match == AfterMatch.PAST_LAST
        out = np.empty((len(codes) + (0 if skip else self.alive + len(codes)), self.slots + 1), np.int64)
        found = _kernels().advance(
            codes, times, masks, ids, self._head, self._tail, self._after, self._slot, self._start, self._events,
            self._free, self._bits, self._strict, within, skip, out,
        )  # fmt: skip
        if not found:
            return Found()
        return Found(MatchTable.of_slots(out[:found, : self.slots], out[:found, self.slots], self._steps))

    def expire(self, watermark: int, *, looks: bool = True) -> Found:
        """Ends the partial matches that no event from `watermark` on can complete; brings nothing."""
        if looks and self.pattern.within is not None and self.alive:
            oldest = watermark - self.pattern.within + 1
            _kernels().sweep(self._head, self._tail, self._after, self._start, self._free, oldest)
        return Found()

    def keys_alive(self, keys: int) -> npt.NDArray[np.bool_]:
        """For each code below `keys`, whether it has partial matches."""
        alive = np.zeros(keys, np.bool_)
        known = min(keys, len(self._head))
        alive[:known] = self._head[:known] != NONE
        return alive

    def held(self, codes: Int64s) -> HeldTable:
        """The partial matches of these keys, for the state: oldest first per key. Their state is how many events they
        have."""
        partials, owners = np.empty(self.alive, np.int64), np.empty(self.alive, np.int64)
        count = _kernels().held(np.ascontiguousarray(codes), self._head, self._after, partials, owners)
        partials, owners = partials[:count], owners[:count]
        sizes = self._slot[partials]
        taken = np.arange(self.slots) < sizes[:, None]
        steps = np.broadcast_to(self._steps, taken.shape)[taken]
        return HeldTable(owners, sizes, self._start[partials], sizes, steps, self._events[partials][taken])

    def put(self, held: Held, last: int, keys: int) -> None:
        """Takes back a partial match, after those that its key has."""
        self._room(1, keys)
        code = held.code
        count = int(self._free[-1]) - 1
        self._free[-1] = count
        new = int(self._free[count])
        self._after[new], self._slot[new], self._start[new] = NONE, held.state, held.start
        self._events[new, : held.state] = held.ids
        if self._tail[code] == NONE:
            self._head[code] = new
        else:
            self._after[self._tail[code]] = new
        self._tail[code] = new

    def referenced(self) -> Int64s:
        """The ids of all events that partial matches hold."""
        ids: Int64s = np.empty(self.alive * self.slots, np.int64)
        return ids[: _kernels().referenced(self._slot, self._events, self._free, ids)]

    def renumber(self, new_code: Int64s, keys: int) -> None:
        """Gives keys new codes: `new_code[old]`, or -1 for keys that have nothing here."""
        head, tail = np.full(keys, NONE, np.int64), np.full(keys, NONE, np.int64)
        old = np.flatnonzero(new_code[: len(self._head)] >= 0)
        head[new_code[old]], tail[new_code[old]] = self._head[old], self._tail[old]
        self._head, self._tail = head, tail

    def _room(self, events: int, keys: int) -> None:
        if keys > len(self._head):
            more = np.full(max(keys, 2 * len(self._head)) - len(self._head), NONE, np.int64)
            self._head, self._tail = np.concatenate([self._head, more]), np.concatenate([self._tail, more])
        unused = int(self._free[-1])
        if unused >= events:
            return
        size = len(self._slot)
        extra = max(size, events)
        self._after = _grown(self._after, extra, NONE)
        self._slot, self._start = _grown(self._slot, extra, 0), _grown(self._start, extra, 0)
        self._events = np.concatenate([self._events, np.full((extra, self.slots), NONE, np.int64)])
        free = np.empty(size + extra + 1, np.int64)
        free[:unused] = self._free[:unused]
        free[unused : unused + extra] = np.arange(size, size + extra)
        free[-1] = unused + extra
        self._free = free


def _grown(array: Int64s, extra: int, value: int) -> Int64s:
    result: Any = np.concatenate([array, np.full(extra, value, np.int64)])
    return result  # type: ignore[no-any-return]


def _kernels() -> Any:
    from thalweg.cep.sequence import _kernel

    return _kernel
