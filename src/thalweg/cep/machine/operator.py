"""`Track`: a state machine inside a running job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.cep.actions import ActionRunner, Call
from thalweg.cep.machine.compiled import BITS, NAMED, CompiledMachine
from thalweg.cep.machine.instances import Instances
from thalweg.cep.machine.results import NUMBER, ROW, change_rows, invalid_rows
from thalweg.cep.ordered import EventOrder, grouped
from thalweg.expressions import iter_rows
from thalweg.streams.batch import DEAD, KEY_GROUP, RESERVED, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.state.key_groups import warm_up as warm_up_key_groups
from thalweg.streams.windows import TimeSemantics

INVALID = "invalid"
"""The port of triggers that no transition took."""

_INSTANCES = "instances"


class Track(Operator):
    """Moves the instances of a machine, calls its actions, and puts out a row for each change.

    State: waiting events (see `EventOrder`), and the instances that changed. Events that are no trigger are filtered.
    Actions are called before the epoch is committed: after a crash again (at least once).
    """

    def __init__(
        self,
        operator_id: str,
        compiled: CompiledMachine,
        keys: Sequence[str],
        topics: Sequence[str] = (),
        schema: pl.Schema | None = None,
    ) -> None:
        super().__init__(operator_id)
        self.compiled = compiled
        self.machine = compiled.machine
        self.keys = list(keys)
        self.topics = topics
        self.order = EventOrder([keys], derived=(NAMED, BITS))
        self.instances = Instances(compiled, keys)
        self._runner = ActionRunner(self.machine.retry)
        self._by_clock = self.machine.time_semantics is TimeSemantics.PROCESSING_TIME
        self._columns: dict[str, pl.DataType] = dict(schema or {})
        self._has_actions = any(t.action for t in self.machine.transitions) or any(
            state.on_entry or state.on_exit for state in self.machine.states.values()
        )

    def warm_up(self) -> None:
        warm_up_key_groups()
        columns = {key: pl.Series([0]) for key in self.keys}
        times = {TIMESTAMP: pl.Series([0]), NAMED: pl.Series([-1]), BITS: pl.Series([0], dtype=pl.UInt64)}
        Instances(self.compiled, self.keys).advance(pl.DataFrame({**columns, **times}), 0)

    # -- events and time

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if self._by_clock:
            now = max(self.clock, self.order.released)
            frame = frame.with_columns(pl.lit(now, pl.Int64).alias(TIMESTAMP))
        else:
            frame, late = self.order.in_time(frame)
            if late is not None:
                self.account.late += len(late)
                yield late
        if not frame.height:
            return
        self._columns.update({n: t for n, t in frame.schema.items() if n not in RESERVED})
        rows, failed = self.compiled.prepare(frame)
        self.account.absorbed += rows.height
        self.account.dead += len(failed)
        self.account.filtered += frame.height - rows.height - len(failed)
        if failed:
            errors = [row_error(row, error) for row, error in sorted(failed.items())]
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)
        if self._by_clock:
            self.order.release(now)
            yield from self._move(rows, now)
        else:
            self.order.add(rows)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        now = watermark.clock if self._by_clock else watermark.event_time
        if now > self.order.released:
            yield from self._move(self.order.release(now)[0], now)

    def _move(self, rows: pl.DataFrame | None, until: int) -> Iterator[Batch]:
        moved = self.instances.advance(rows, until)
        if len(moved.changes):
            changes = change_rows(self.compiled, self.keys, moved, rows, pl.Schema(self._columns))
            yield from self._failures(changes)
            yield Batch(changes.drop(ROW, NUMBER))
        if len(moved.invalid) and rows is not None:
            yield Batch(invalid_rows(self.compiled, moved, rows), INVALID)

    # -- actions

    def _failures(self, changes: pl.DataFrame) -> Iterator[Batch]:
        """Calls the actions of some changes; dead letters for those that failed for good."""
        calls = list(self._calls(changes)) if self._has_actions else []
        if not calls:
            return
        errors: list[RowError] = []
        for failure in self._runner.run(calls):
            row, name, message, details = row_error(failure.row, failure.error)
            details = {**details, "action": failure.owner, "attempts": failure.attempts}
            errors.append((row, "ActionFailed", f"{failure.owner}: {name}: {message}", details))
        if errors:
            yield Batch(dead_letters(changes.drop(ROW, NUMBER), errors, self.id, self.topics), DEAD)

    def _calls(self, changes: pl.DataFrame) -> Iterator[Call]:
        """The actions of each change: leaving, the transition's own, entering."""
        states, transitions = self.machine.states, self.machine.transitions
        numbers = changes.get_column(NUMBER).to_list()
        for row, (change, number) in enumerate(
            zip(iter_rows(changes.drop(ROW, NUMBER), self.keys), numbers, strict=True)
        ):
            before, after = change["from_state"], change["to_state"]
            action = transitions[number].action if number >= 0 else None
            if (leave := states[before].on_exit) is not None:
                yield Call(leave, (change,), f"leaving {before!r}", row)
            if action is not None:
                yield Call(action, (change,), f"transition {transitions[number].label!r}", row)
            if (enter := states[after].on_entry) is not None:
                yield Call(enter, (change,), f"entering {after!r}", row)

    # -- state

    def snapshot(self, *, full: bool = False) -> StateDelta:
        instances = self.instances.changes(full=full)
        delta = self.order.snapshot(full=full)
        if instances is not None:
            delta.puts = [*delta.puts, (_INSTANCES, grouped(instances, self.keys))]
        return delta

    def restore(self, state: State) -> None:
        frames = [frame.drop(KEY_GROUP) for frame in state.get(_INSTANCES, ()) if frame.height]
        if frames:
            self.instances.restore(frames)
        self.order.restore(state, lambda rows: self.compiled.prepare(rows)[0])
        for held in self.order.columns():
            self._columns.update({n: t for n, t in held.items() if n not in RESERVED | {NAMED, BITS}})

    def close(self) -> None:
        self._runner.close()
