"""The states under way, as arrays: what a batch and the passing of time do to them.

Cost: a few nanoseconds for each event and rule whose condition holds on it, or that has a state of its key; nothing for
other states. State: 120 bytes per state, and the text of the event that began it, once for all states that it began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.alerts.masks import Bits
from thalweg.alerts.plain import event_texts
from thalweg.alerts.states.keys import Flags, Keyed, KeyNumbers, Place
from thalweg.alerts.states.layout import (
    ABSENT,
    ALIVE,
    BEGUN,
    CHANGE,
    CHANGES,
    CODE,
    CURSOR,
    ENDED,
    EVENT,
    FIRING,
    FREE,
    GONE,
    HOLD,
    KIND,
    LAST,
    NEVER,
    NEXT,
    OF_CODE,
    OF_EVENT,
    RESOLVE,
    RULE,
    SAVED,
    SETTINGS,
    SINCE,
    TOUCHED,
    WIDTH,
)  # fmt: skip
from thalweg.cep.sequence.events import EventStore
from thalweg.records import Int64s
from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.state.due_queue import DueQueue

TELL_EVERY = 10_000
"""ms of event time: how often an alert learns that its state goes on."""
_BEFORE_ALL = -(2**62)
_ROOM = 1_024


@dataclass(frozen=True)
class Held:
    """Where the conditions of rules hold whose fingerprints are made of the same columns.

    Attributes:
        by: the columns.
        rules: the numbers of the rules whose condition holds anywhere.
        rows, starts: the rows on which it does, rule after rule.
    """

    by: tuple[str, ...]
    rules: Int64s
    rows: Int64s
    starts: Int64s


@dataclass(frozen=True)
class Happened:
    """Changes of states (columns: see `layout`), the keys that they are about by code, and the events, as JSON, that
    states began with."""

    changes: Int64s
    keys: Mapping[int, Place]
    events: Mapping[int, str]


@dataclass(frozen=True)
class States:
    """States as rows (see `layout`), the texts of their events, and their keys: row i has `keys[which[i]]`."""

    rows: Int64s
    events: pl.Series
    keys: Sequence[Place]
    which: Int64s


@dataclass(frozen=True)
class Gone:
    """States that are no more: their rules' numbers, key groups, and keys; number i has `keys[which[i]]`."""

    rules: Int64s
    groups: Int64s
    keys: Sequence[Place]
    which: Int64s


class Rows:
    """A batch as the table takes it. Its arrays are writable: the kernel is compiled for that, and once.

    Args:
        groups: the key group of each row.
        failed: rows on which a condition raised: they change nothing.
    """

    def __init__(self, frame: pl.DataFrame, groups: pl.Series, failed: Flags) -> None:
        self.frame = frame
        self.failed = failed
        self.times = _writable(frame.get_column(TIMESTAMP))
        self.groups = _writable(groups)
        self.watermarks: Int64s = np.full(frame.height, _BEFORE_ALL)
        if WATERMARK in frame.columns:
            self.watermarks = _writable(frame.get_column(WATERMARK).fill_null(_BEFORE_ALL))


def _writable(column: pl.Series) -> Int64s:
    return np.require(column.cast(pl.Int64).to_numpy(), np.int64, ["C", "W"])


class _Run:
    """What a run of the kernel works with besides the states: how many slots are free, and its outputs."""

    def __init__(self, table: StateTable) -> None:
        self.free = len(table.slots) - table.count
        self.cursor = np.zeros(CURSOR, np.int64)
        self.cursor[FREE] = table.first_free
        self.changes, self.touched, self.gone = (np.zeros((0, width), np.int64) for width in (CHANGE, 1, 3))


class StateTable:
    """See the module."""

    def __init__(self) -> None:
        self.keys = KeyNumbers()
        self.count = 0
        """States under way."""
        self.slots = np.zeros((0, WIDTH), np.int64)
        self.first_free = -1
        self.settings: Int64s = np.zeros((0, SETTINGS), np.int64)
        """By rule: see `layout`."""
        self._head: Int64s = np.zeros(0, np.int64)
        self._queue = DueQueue()
        self._events = EventStore()
        self._touched: list[Int64s] = []
        self._gone: list[Gone] = []

    @property
    def bytes(self) -> int:
        """Their size, about."""
        return 8 * WIDTH * self.count + self._events.bytes

    # -- events and time

    def follow(self, rows: Rows, held: Held, clear: Int64s, ends: Bits) -> Happened:
        """Takes a batch.

        Args:
            clear: by rule, which row of `ends` (bitmaps) has where its state ends; -1: where its condition does not
                hold; -2: the rule does not look at these events.
        """
        kernel, keyed, run = _kernel(), Keyed(rows.frame, held.by), _Run(self)
        count = len(keyed.keys)
        starts, rules, where = kernel.by_code(held.rows, held.starts, held.rules, keyed.codes, rows.failed, count)
        row_starts, in_order = keyed.in_order()
        codes = self.keys.of(held.by, keyed.keys, np.diff(starts) > 0)
        self._make_room_for_keys()
        mine = np.full(len(self.settings), -1, np.int64)
        first_event, at = self._events.next_id, 0
        while True:
            at, run.free, run.changes, run.touched, run.gone = kernel.follow(
                at, codes, in_order, row_starts, rules, where, starts, self.settings, clear, ends, rows.times,
                rows.watermarks, rows.groups, rows.failed, first_event, TELL_EVERY, self._head, self.slots, run.free,
                mine, run.cursor, run.changes, run.touched, run.gone,
            )  # fmt: skip
            if at == count:
                break
            self._make_room(run)
        slots = self._took(run)
        happened = self._happened(run, first_event, rows.frame)
        self._keep_events(slots, first_event, rows.frame)
        self._release(codes[codes >= 0])
        self._queue.lower(slots, self._due(slots))
        return happened

    def pass_time(self, now: int) -> Happened:
        """What time alone brings about: states that have held, absences, ends that have lasted long enough."""
        due, run = self._queue.due(now), _Run(self)
        if not len(due):
            return Happened(run.changes, {}, {})
        codes = np.unique(self.slots[due[self.slots[due, ALIVE] == 1], CODE])
        run.free, run.changes, run.touched, run.gone = _kernel().pass_time(
            due, now, self.settings, self._head, self.slots, run.free, run.cursor, run.changes, run.touched, run.gone
        )
        slots = self._took(run)
        happened = self._happened(run, self._events.next_id, None)
        self._release(codes)
        self._queue.lower(slots, self._due(slots))
        return happened

    def _took(self, run: _Run) -> Int64s:
        """Notes what the kernel has done; returns the slots of states that it wrote."""
        self.first_free = int(run.cursor[FREE])
        self.count = len(self.slots) - run.free
        if run.cursor[GONE]:
            rule, code, group = run.gone[: run.cursor[GONE]].T
            codes, which = np.unique(code, return_inverse=True)
            self._gone.append(Gone(rule, group, [self.keys.get(one) for one in codes.tolist()], which))
        slots = run.touched[: run.cursor[TOUCHED], 0].copy()  # each once, and alive
        self._touched.append(slots)
        return slots

    def _happened(self, run: _Run, first: int, frame: pl.DataFrame | None) -> Happened:
        """The changes; events from number `first` on are rows of the frame."""
        changes = run.changes[: run.cursor[CHANGES]]
        keys = {code: self.keys.get(code) for code in set(changes[:, OF_CODE].tolist())}
        wanted = np.unique(changes[changes[:, KIND] == BEGUN, OF_EVENT])
        old, new = wanted[wanted < first], wanted[wanted >= first]
        events: dict[int, str] = {}
        if len(old):
            events.update(zip(old.tolist(), self._texts(old), strict=True))
        if len(new) and frame is not None:
            events.update(zip(new.tolist(), event_texts(frame[new - first]), strict=True))
        return Happened(changes, keys, events)

    def _texts(self, events: Int64s) -> list[str]:
        return self._events.get(events).get_column("event").to_list() if len(events) else []

    def _keep_events(self, slots: Int64s, first: int, frame: pl.DataFrame) -> None:
        """Takes the events of the batch that states still hold."""
        new = slots[self.slots[slots, EVENT] >= first]
        if len(new):
            rows = self.slots[new, EVENT] - first
            kept = np.zeros(frame.height, np.bool_)
            kept[rows] = True
            numbers = np.zeros(frame.height, np.int64)
            numbers[kept] = self._events.add(event_texts(frame.filter(kept)).to_frame())
            self.slots[new, EVENT] = numbers[rows]
        if self.count:
            self._events.trim(lambda: self.slots[self.slots[:, ALIVE] == 1, EVENT])
        elif self._events.rows:
            self._events = EventStore()

    def _due(self, slots: Int64s) -> Int64s:
        """When time alone changes something about states next."""
        states = self.slots[slots]
        settings = self.settings[states[:, RULE]]
        firing, ended, resolve = states[:, FIRING] == 1, states[:, ENDED], settings[:, RESOLVE]
        over = np.where((ended == NEVER) | (resolve < 0), NEVER, ended + resolve)
        waits = np.where(firing, over, states[:, SINCE] + settings[:, HOLD])
        missing = np.where(firing, NEVER, states[:, LAST] + settings[:, ABSENT])
        found: Int64s = np.where(settings[:, ABSENT] >= 0, missing, waits)
        return found

    # -- room

    def _release(self, codes: Int64s) -> None:
        """Keys that nothing is about any more leave nothing behind."""
        self.keys.release(codes[self._head[codes] < 0].tolist())

    def _make_room_for_keys(self) -> None:
        more = self.keys.room - len(self._head)
        if more > 0:
            self._head = np.append(self._head, np.full(max(more, len(self._head)), -1, np.int64))

    def _make_room(self, run: _Run) -> None:
        """Twice as many slots."""
        old, more = len(self.slots), max(_ROOM, len(self.slots))
        added = np.zeros((more, WIDTH), np.int64)
        added[:, NEXT] = np.arange(old + 1, old + more + 1)
        added[-1, NEXT] = run.cursor[FREE]
        self.slots = np.concatenate([self.slots, added])
        run.cursor[FREE] = old
        run.free += more
        self._queue.reserve(len(self.slots))

    # -- state

    def drop(self, rule: int) -> None:
        """Forgets the states of a rule."""
        mine = np.flatnonzero((self.slots[:, ALIVE] == 1) & (self.slots[:, RULE] == rule))
        codes, run = np.unique(self.slots[mine, CODE]), _Run(self)
        run.gone = _kernel().drop(mine, self._head, self.slots, run.gone, run.cursor)
        run.free += len(mine)
        self._took(run)
        self._release(codes)

    def take_changed(self) -> tuple[Int64s, list[Gone]]:
        """The slots that changed since the last call, and states that are gone. What is gone may have begun anew."""
        slots = np.unique(np.concatenate([np.zeros(0, np.int64), *self._touched]))
        slots = slots[self.slots[slots, ALIVE] == 1]
        gone, self._touched, self._gone = self._gone, [], []
        self.slots[slots, SAVED] = 1
        return slots, gone

    def all(self) -> Int64s:
        """The slots of all states under way."""
        found: Int64s = np.flatnonzero(self.slots[:, ALIVE] == 1)
        return found

    def columns(self, slots: Int64s) -> States:
        """Some states as rows, with the texts of their events, and their keys."""
        states = self.slots[slots]
        codes, which = np.unique(states[:, CODE], return_inverse=True)
        events, of = np.unique(states[:, EVENT], return_inverse=True)
        texts = pl.Series(self._texts(events), dtype=pl.String).gather(of)
        return States(states, texts, [self.keys.get(code) for code in codes.tolist()], which)

    def put(self, given: States) -> None:
        """Takes states back, as `columns` gives them."""
        if not len(given.rows):
            return
        states, run = given.rows.copy(), _Run(self)
        while run.free < len(states):
            self._make_room(run)
        states[:, ALIVE] = states[:, SAVED] = 1
        states[:, EVENT] = self._events.add(given.events.alias("event").to_frame())
        states[:, CODE] = np.array([self.keys.number(*place) for place in given.keys], np.int64)[given.which]
        self._make_room_for_keys()
        run.touched, run.gone = _kernel().put(states, self._head, self.slots, run.touched, run.gone, run.cursor)
        run.free -= len(states)
        slots = self._took(run)
        self._touched.clear()
        self._queue.lower(slots, self._due(slots))


def _kernel() -> Any:
    from thalweg.alerts.states import _kernel as kernel

    return kernel
