"""Session joins: rows of both sides that are in the same session of their key.

A session is made of the rows of both sides: it goes on as long as one of either comes within the gap.

State: the rows of each side in a keyed columnar index (`KeyedRows`), with the order in which they came and the
watermark that each was judged by: from these the sessions follow again after a restart. Which session a row is in, and
which are due, is known by arrays (`SessionIndex`). Cost per event: an insert and a probe; per session that closes or is
merged into another one: a step for each of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from thalweg.streams.batch import LATE, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.join_base import LEFT, RIGHT, JoinOperator
from thalweg.streams.engine.join_window import WINDOW_END, WINDOW_START
from thalweg.streams.engine.lateness import late_facts
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.state import keyed_rows, session_index
from thalweg.streams.state.keyed_rows import LABELS, KeyedRows
from thalweg.streams.state.row_lists import Int64s, Keys
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.state.slot_table import grown

ARRIVAL = "__arrival"
"""Which row of the operator it is, Int64: counted over both sides."""
JUDGED = "__judged"
"""The watermark that the row was judged by, less the allowed lateness."""
_SESSION = "__session"
_NONE = np.zeros(0, dtype=np.int64)


class SessionJoin(JoinOperator):
    """Joins what both sides have in a session when that closes: watermark >= end + lateness.

    Results have the joined columns, `window_start` and `window_end`; their time is `window_end - 1`.
    """

    def __init__(
        self, operator_id: str, columns: JoinColumns, gap: int, lateness: int, longest: int | None = None
    ) -> None:
        super().__init__(operator_id, columns, lateness)
        self.lateness = lateness
        self.index = SessionIndex(gap, longest)
        # A null in a key has a session as well; its rows are found, but have no partners (see `_pairs`).
        names = (("left", columns.left_on), ("right", columns.right_on))
        self.sides = [KeyedRows(name, keys, nulls_equal=True) for name, keys in names]
        self._session = [_NONE, _NONE]
        """By side: the session of each row."""
        self._witness = _NONE
        """By session: a row of its key, twice its number plus its side."""
        self.arrived = 0

    def warm_up(self) -> None:
        keyed_rows.warm_up()
        session_index.warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        order = pl.int_range(self.arrived, self.arrived + frame.height, dtype=pl.Int64)
        rows = self.kept(frame.with_columns(order.alias(ARRIVAL), (self.judge(frame) - self.lateness).alias(JUDGED)))
        self.arrived += frame.height
        late = self._take(rows, port)
        if late.any():
            self.account.late += int(late.sum())
            end = pl.col(TIMESTAMP) + (self.index.gap + self.lateness)
            yield Batch(frame.filter(late).with_columns(late_facts(end, self.judge(frame))), LATE)

    def _take(self, rows: pl.DataFrame, port: int) -> pl.Series:
        """Puts rows into sessions; returns which are late."""
        side = self.sides[port]
        keys = side.keys(rows)
        times = np.ascontiguousarray(rows[TIMESTAMP].to_numpy())
        sessions, created = self._assign(keys, times, np.ascontiguousarray(rows[JUDGED].to_numpy()))
        good = sessions >= 0
        self.account.absorbed += int(good.sum())
        slots = np.full(rows.height, -1, dtype=np.int64)
        slots[good] = side.add(rows.filter(pl.Series(good)), keys.take(good), times[good])
        self._note(port, slots[good], sessions[good])
        self._witness[sessions[created]] = 2 * slots[created] + port
        return pl.Series(~good)

    def _assign(self, keys: Keys, times: Int64s, judged: Int64s) -> tuple[Int64s, Int64s]:
        """The session of each row (-1: late), and the rows that began one which is still there."""
        given = self.index.assign(keys.numbers, times, judged)
        if self.index.capacity > len(self._witness):
            self._witness = grown(self._witness, self.index.capacity)
        old = given.gone[self._witness[given.gone] >= 0]  # others began in this batch: no row is noted there yet
        if len(old):
            into = self.index.merged_into(old)
            for port in (LEFT, RIGHT):
                numbers, slots = self._members(old, port)
                self._session[port][slots] = into[numbers]
            fresh = self._witness[into] < 0
            self._witness[into[fresh]] = self._witness[old[fresh]]
        self._witness[given.gone] = -1
        self.index.release(given.gone)
        begun = given.created[given.slots[given.created] >= 0]
        return given.slots, begun[self._witness[given.slots[begun]] < 0]

    def _note(self, port: int, slots: Int64s, sessions: Int64s) -> None:
        if len(self.sides[port].serial) > len(self._session[port]):
            self._session[port] = grown(self._session[port], len(self.sides[port].serial))
        self._session[port][slots] = sessions

    def _members(self, sessions: Int64s, port: int) -> tuple[Int64s, Int64s]:
        """The rows that one side has in these sessions: (number of the session, slot)."""
        numbers, found = [_NONE], [_NONE]
        for witness in (LEFT, RIGHT):
            of = np.flatnonzero(self._witness[sessions] % 2 == witness)
            if not len(of):
                continue
            rows = self.sides[witness].read(self._witness[sessions[of]] // 2)
            keys = self.sides[witness].keys(rows)
            for probes, slots in self.sides[port].find(
                keys, self.index.start[sessions[of]], self.index.last[sessions[of]]
            ):
                own = self._session[port][slots] == sessions[of][probes]
                numbers.append(of[probes[own]])
                found.append(slots[own])
        return np.concatenate(numbers), np.concatenate(found)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        due = self.index.due(self.closed - self.lateness)
        if not len(due):
            return
        due = due[np.lexsort((self.index.start[due], self.index.ends(due)))]
        members = [self._members(due, port) for port in (LEFT, RIGHT)]
        parts = [part for part in self._results(members) if part.height]
        if parts:
            bounds = pl.DataFrame(
                {_SESSION: np.arange(len(due)), WINDOW_START: self.index.start[due], WINDOW_END: self.index.ends(due)}
            )
            yield self.result(_bounded(pl.concat(parts, how="diagonal_relaxed"), bounds))
        self.index.close(due)
        self._witness[due] = -1
        self.index.release(due)
        for side, (_, slots) in zip(self.sides, members, strict=True):
            side.remove(slots)

    def _results(self, members: list[tuple[Int64s, Int64s]]) -> Iterator[pl.DataFrame]:
        """Pairs, and rows without a partner, each with the number of its session."""
        left, right = (self._rows(port, *members[port]) for port in (LEFT, RIGHT))
        how, columns = self.columns.how, self.columns
        able = [_have_keys(left, columns.left_on), _have_keys(right, columns.right_on)]
        if not how.left_only:
            yield self._pairs(able[LEFT], able[RIGHT])
        if how is How.SEMI:
            yield self._alone(able[LEFT].join(able[RIGHT], on=_SESSION, how="semi", maintain_order="left"))
        if how.keeps_left:
            yield self._alone(left.join(able[RIGHT], on=_SESSION, how="anti", maintain_order="left"))
        if how.keeps_right:
            yield self._alone(right.join(able[LEFT], on=_SESSION, how="anti", maintain_order="left"), right=True)

    def _rows(self, port: int, numbers: Int64s, slots: Int64s) -> pl.DataFrame:
        """The rows with the number of their session, in the order in which they came."""
        if not len(slots):
            known = self.columns.left if port == LEFT else self.columns.right
            return pl.DataFrame(schema={**known, TIMESTAMP: pl.Int64(), _SESSION: pl.Int64()})
        rows = self.sides[port].read(slots).with_columns(pl.Series(_SESSION, numbers))
        return rows.sort(_SESSION, ARRIVAL)

    def _pairs(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        if not left.height or not right.height:
            return pl.DataFrame()
        places = left.select(_SESSION, pl.row_index("l")).join(
            right.select(_SESSION, pl.row_index("r")), on=_SESSION, maintain_order="left_right"
        )
        pairs = self.columns.pairs(left[places["l"]], right[places["r"]])
        return pairs.with_columns(places[_SESSION])

    def _alone(self, rows: pl.DataFrame, *, right: bool = False) -> pl.DataFrame:
        if not rows.height:
            return pl.DataFrame()
        return self.columns.alone(rows, right=right).with_columns(rows[_SESSION])

    def memory(self) -> Memory:
        held = self.sides[LEFT].memory() + self.sides[RIGHT].memory()
        arrays = self.index.memory() + self._witness.nbytes + sum(array.nbytes for array in self._session)
        return held + Memory(0, arrays)

    def snapshot(self, *, full: bool = False) -> StateDelta:
        others = self.other_state(full=full)
        puts = [put for side in self.sides for put in side.snapshot(full=full)]
        puts += [put for delta in others for put in delta.puts]
        drops = [name for delta in others for name in delta.drops]
        return self.combine(puts, drops=drops, forgotten=False, full=full)

    def other_state(self, *, full: bool) -> list[StateDelta]:
        """What a subclass saves besides."""
        return []

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        parts = []
        for port, side in enumerate(self.sides):
            side.restore(state)
            for frame in state.get(side.name, ())[:1]:
                self.columns.see(frame.drop(*LABELS, ARRIVAL, JUDGED, strict=False), right=port == RIGHT)
            slots = side.alive()
            if len(slots):
                rows = side.read(slots)
                parts.append(self.placed(port, rows, side.keys(rows), slots))
        if parts:
            self.go_on(pl.concat(parts).sort(ARRIVAL))

    def placed(self, port: int, rows: pl.DataFrame, keys: Keys, slots: Int64s) -> pl.DataFrame:
        """What `go_on` has to know of rows that are held in these slots."""
        return rows.select(ARRIVAL, JUDGED, TIMESTAMP).with_columns(
            pl.Series("slot", slots), pl.lit(port).alias("port"), first=keys.first, second=keys.second
        )

    def go_on(self, rows: pl.DataFrame) -> None:
        """Puts rows that are held into sessions, in the order in which they came."""
        self.arrived = int(rows[ARRIVAL].max()) + 1  # type: ignore[arg-type]
        first, second, times, judged, slots, ports = (
            np.ascontiguousarray(rows[name].to_numpy())
            for name in ("first", "second", TIMESTAMP, JUDGED, "slot", "port")
        )
        sessions, created = self._assign(Keys(first, second, None), times, judged)
        for port in (LEFT, RIGHT):
            own = ports == port
            self._note(port, slots[own], sessions[own])
        self._witness[sessions[created]] = 2 * slots[created] + ports[created]


def _have_keys(rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The rows that may have a partner: null equals nothing."""
    return rows.filter(pl.all_horizontal(pl.col(keys).is_not_null())) if keys and rows.height else rows


def _bounded(rows: pl.DataFrame, bounds: pl.DataFrame) -> pl.DataFrame:
    """The rows with the bounds of their sessions, session by session."""
    last = (pl.col(WINDOW_END) - 1).cast(pl.Int64)
    joined = rows.drop(TIMESTAMP, WATERMARK, strict=False).join(bounds, on=_SESSION, how="left", maintain_order="left")
    return (
        joined.sort(_SESSION, maintain_order=True)
        .drop(_SESSION)
        .with_columns(last.alias(TIMESTAMP), last.alias(WATERMARK))
    )
