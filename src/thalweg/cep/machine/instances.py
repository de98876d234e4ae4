"""The instances of a machine: arrays by key code, moved by the kernel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.cep.machine.compiled import BITS, NAMED, CompiledMachine
from thalweg.cep.machine.instance import Instance
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.expressions import Row
from thalweg.records import Int64s
from thalweg.streams.batch import TIMESTAMP

logger = logging.getLogger(__name__)

_STATE, _SINCE, _STEP, _PREVIOUS, _VISITS, _PATH = "__state", "__since", "__step", "__previous", "__visits", "__path"
_NEVER = 2**63 - 1
_ROOM = 1_024


@dataclass(slots=True)
class Moved:
    """What some events and timeouts did, in numbers.

    Rows are those of the events given; -1: a timeout. `keys` has the key columns of each change.
    """

    changes: Int64s
    """(changes, 8): time, code, row, from, to, number of the transition (-1: timeout), since, step."""
    paths: Int64s
    """(changes, history): the states left before, the newest last; -1 where there were fewer."""
    keys: pl.DataFrame
    invalid: Int64s
    """(invalid triggers, 3): row, state, reason."""
    errors: dict[int, Exception]
    """What guards raised, by row."""


class Instances:
    """All instances of a machine.

    State: one row for each instance that is not where a new one would be. Cost: a probe and a few steps per event;
    a timeout costs the logarithm of the number of instances that have one.
    """

    def __init__(self, compiled: CompiledMachine, keys: Sequence[str]) -> None:
        machine = compiled.machine
        self.compiled = compiled
        self.keeps_changes = True
        """Whether snapshots are taken; False: what changed is forgotten at once."""
        self._codes = KeyCodes(keys)
        self._keys = list(keys)
        self._states = len(compiled.states)
        self._visits_width = self._states if compiled.asks else 0
        self._history = machine.history
        self._keep_initial = machine.states[machine.initial].timeout is not None
        """Else one that has not moved is as good as none, and is not kept."""
        self._heap_size = np.zeros(1, np.int64)
        self._heap_time, self._heap_code = np.zeros(_ROOM, np.int64), np.zeros(_ROOM, np.int64)
        self._make(0)

    def _make(self, size: int) -> None:
        self._state = np.full(size, -1, np.int64)
        self._since, self._step = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._previous = np.full(size, -1, np.int64)
        self._deadline = np.full(size, _NEVER, np.int64)
        self._changed = np.zeros(size, np.bool_)
        self._visits = np.zeros((size, self._visits_width), np.int64)
        self._path = np.full((size, self._history), -1, np.int64)

    def __len__(self) -> int:
        """Instances that the state holds."""
        return int((self._state >= 0).sum())

    def open(self) -> pl.DataFrame:
        """The instances that the state holds: key columns, `state`, `since` (ms UTC), `step`."""
        codes = np.flatnonzero(self._state[: len(self._codes)] >= 0)
        names = pl.Series("state", self.compiled.states, dtype=pl.String).gather(self._state[codes])
        return self._codes.values()[codes].with_columns(
            names, pl.Series("since", self._since[codes]), pl.Series("step", self._step[codes])
        )

    # -- events and time

    def advance(self, rows: pl.DataFrame | None, until: int) -> Moved:
        """Takes prepared events in order of time, and the timeouts up to `until`."""
        if rows is None:
            rows = pl.DataFrame(schema={TIMESTAMP: pl.Int64, NAMED: pl.Int64, BITS: pl.UInt64})
            codes = np.zeros(0, np.int64)
        else:
            codes = self._codes.of(rows)
        self._grow(len(self._codes), 2 * rows.height)
        moved = self._run(rows, codes, until)
        moved.keys = self._values(moved.changes[:, 1])
        if not self.keeps_changes:
            self._changed[:] = False
        self._tidy()
        return moved

    def _run(self, rows: pl.DataFrame, codes: Int64s, until: int) -> Moved:
        kernel = _kernel()
        # Writable, all of them: the kernel is compiled for that, and once.
        times, named = (np.require(rows.get_column(n).to_numpy(), np.int64, ["C", "W"]) for n in (TIMESTAMP, NAMED))
        bits = np.require(rows.get_column(BITS).to_numpy(), np.uint64, ["C", "W"])
        invalid = np.zeros((len(codes), 3), np.int64)
        cursor = np.zeros(4, np.int64)
        parts: list[tuple[Int64s, Int64s]] = []
        errors: dict[int, Exception] = {}
        answer = kernel.UNKNOWN
        out = np.zeros((len(codes) + _ROOM, 8), np.int64)
        path = np.zeros((len(out), self._history), np.int64)
        while True:
            done = kernel.advance(
                times, codes, named, bits, until, answer,
                *self._tables(), *self._arrays(), out, path, invalid, cursor,
            )  # fmt: skip
            answer = kernel.UNKNOWN
            if done == kernel.ASK:
                answer = self._ask(rows, codes, int(cursor[kernel.AT]), int(cursor[kernel.ASKING]), errors)
                continue
            found = int(cursor[kernel.RESULTS])
            parts.append((out[:found].copy(), path[:found].copy()))
            cursor[kernel.RESULTS] = 0
            if done == kernel.DONE:
                break
        changes = np.concatenate([part for part, _ in parts])
        paths = np.concatenate([part for _, part in parts])
        return Moved(changes, paths, pl.DataFrame(), invalid[: int(cursor[kernel.INVALID])], errors)

    def _tables(self) -> tuple[Any, ...]:
        tables, machine = self.compiled.tables, self.compiled.machine
        return (
            tables.first, tables.named, tables.when, tables.guard, tables.asks, tables.target, tables.number,
            tables.timeout, tables.on_timeout, tables.final,
            self.compiled.number(machine.initial), self._keep_initial, machine.remember_ms,
        )  # fmt: skip

    def _arrays(self) -> tuple[Any, ...]:
        return (
            self._state, self._since, self._step, self._previous, self._deadline, self._changed, self._visits,
            self._path, self._heap_time, self._heap_code, self._heap_size,
        )  # fmt: skip

    def _ask(self, rows: pl.DataFrame, codes: Int64s, row: int, place: int, errors: dict[int, Exception]) -> int:
        """The answer of a guard that looks at the instance."""
        kernel, code = _kernel(), codes[row]
        names = self.compiled.states
        visits = {name: int(count) for name, count in zip(names, self._visits[code], strict=True)}
        instance = Instance(names[self._state[code]], int(self._since[code]), int(self._step[code]), visits)
        transition = self.compiled.machine.transitions[int(self.compiled.tables.number[place])]
        fields = rows.row(row, named=True)
        time = fields[TIMESTAMP]
        event = Row({name: value for name, value in fields.items() if name not in (NAMED, BITS)}, self._keys, time)
        try:
            return int(kernel.YES if transition.guard(event, instance) else kernel.NO)
        except Exception as error:
            errors[row] = error
            return int(kernel.FAILED)

    def _values(self, codes: Int64s) -> pl.DataFrame:
        return self._codes.values()[codes] if len(codes) else pl.DataFrame()

    # -- room

    def _grow(self, count: int, deadlines: int) -> None:
        size = len(self._state)
        if count > size:
            more = max(count, 2 * size, _ROOM) - size
            self._state = np.append(self._state, np.full(more, -1, np.int64))
            self._previous = np.append(self._previous, np.full(more, -1, np.int64))
            self._deadline = np.append(self._deadline, np.full(more, _NEVER, np.int64))
            self._since, self._step = (np.append(a, np.zeros(more, np.int64)) for a in (self._since, self._step))
            self._changed = np.append(self._changed, np.zeros(more, np.bool_))
            self._visits = np.vstack([self._visits, np.zeros((more, self._visits_width), np.int64)])
            self._path = np.vstack([self._path, np.full((more, self._history), -1, np.int64)])
        needed = int(self._heap_size[0]) + deadlines
        if needed > len(self._heap_time):
            self._rebuild_heap(needed)

    def _rebuild_heap(self, room: int) -> None:
        """Makes room, and leaves void entries out: a sorted array is a heap."""
        codes = np.flatnonzero(self._deadline != _NEVER)
        codes = codes[np.argsort(self._deadline[codes], kind="stable")]
        size = max(_ROOM, 2 * (len(codes) + room))
        self._heap_time, self._heap_code = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._heap_time[: len(codes)], self._heap_code[: len(codes)] = self._deadline[codes], codes
        self._heap_size[0] = len(codes)

    def _tidy(self) -> None:
        """Gives codes anew when most keys are gone."""
        count = len(self._codes)
        alive = (self._state[:count] >= 0) | self._changed[:count]
        new = self._codes.keep(alive)
        if new is None:
            return
        kept = np.flatnonzero(new >= 0)
        for name in ("_state", "_since", "_step", "_previous", "_deadline", "_changed", "_visits", "_path"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[kept]))
        self._rebuild_heap(0)

    # -- state

    def changes(self, *, full: bool) -> pl.DataFrame | None:
        """The instances that changed since the last call (a null state: gone), or all; None where there are none."""
        count = len(self._codes)
        chosen = self._state[:count] >= 0 if full else self._changed[:count]
        codes = np.flatnonzero(chosen)
        self._changed[:] = False
        if not len(codes):
            return None
        states = pl.Series([*self.compiled.states, None], dtype=pl.String)
        return self._codes.values()[codes].with_columns(
            states.gather(np.where(self._state[codes] < 0, self._states, self._state[codes])).alias(_STATE),
            pl.Series(_SINCE, self._since[codes]),
            pl.Series(_STEP, self._step[codes]),
            states.gather(np.where(self._previous[codes] < 0, self._states, self._previous[codes])).alias(_PREVIOUS),
            *self._extras(codes),
        )

    def _extras(self, codes: Int64s) -> list[pl.Series]:
        """What only some machines keep: how often each state was entered, and the states left last."""
        extras = []
        if self._visits_width:
            columns = {name: self._visits[codes, number] for number, name in enumerate(self.compiled.states)}
            extras.append(pl.DataFrame(columns).to_struct(_VISITS))
        if self._history:
            extras.append(path_lists(self.compiled.states, self._path[codes]).alias(_PATH))
        return extras

    def restore(self, frames: Sequence[pl.DataFrame]) -> None:
        """Takes back what `changes` gave, oldest first. Timeouts count from then, as the machine has them now.

        Instances in a state that the machine no longer has are left out, with a warning.
        """
        numbered = [frame.with_columns(pl.lit(n).alias("__frame")) for n, frame in enumerate(frames)]
        rows = pl.concat(numbered, how="diagonal_relaxed")
        rows = rows.filter(pl.col("__frame") == pl.col("__frame").max().over(self._keys), pl.col(_STATE).is_not_null())
        known = rows.filter(pl.col(_STATE).is_in(self.compiled.states))
        if known.height < rows.height:
            gone = sorted(set(rows.get_column(_STATE).to_list()) - set(self.compiled.states))
            logger.warning(
                "state machine %r: %d instances in states that it no longer has are left out (%s)",
                self.compiled.machine.id, rows.height - known.height, ", ".join(gone),
            )  # fmt: skip
        if known.height:
            self._take(known)

    def _take(self, rows: pl.DataFrame) -> None:
        codes = self._codes.of(rows)
        self._grow(len(self._codes), 0)
        numbers = {name: number for number, name in enumerate(self.compiled.states)}
        self._state[codes] = [numbers[name] for name in rows.get_column(_STATE).to_list()]
        self._since[codes], self._step[codes] = rows.get_column(_SINCE).to_numpy(), rows.get_column(_STEP).to_numpy()
        self._previous[codes] = [numbers.get(name, -1) for name in rows.get_column(_PREVIOUS).to_list()]
        if self._visits_width and _VISITS in rows.columns:
            for code, visits in zip(codes, rows.get_column(_VISITS).to_list(), strict=True):
                self._visits[code] = [(visits or {}).get(name) or 0 for name in numbers]
        if self._history and _PATH in rows.columns:
            for code, path in zip(codes, rows.get_column(_PATH).to_list(), strict=True):
                kept = [numbers.get(name, -1) for name in (path or [])[-self._history :]]
                self._path[code, self._history - len(kept) :] = kept
        states = self._state[codes]
        tables = self.compiled.tables
        waits = np.where(tables.final[states], self.compiled.machine.remember_ms, tables.timeout[states])
        self._deadline[codes] = np.where(waits > 0, self._since[codes] + waits, _NEVER)
        self._rebuild_heap(0)


def path_lists(states: Sequence[str], paths: Int64s) -> pl.Series:
    """Rows of state numbers (-1: none) as lists of names."""
    numbers = pl.Series(paths.ravel()).replace(-1, None)
    names = pl.Series(states, dtype=pl.String).gather(numbers)
    return names.reshape(paths.shape).arr.to_list().list.drop_nulls()


def _kernel() -> Any:
    from thalweg.cep.machine import _kernel as kernel

    return kernel
