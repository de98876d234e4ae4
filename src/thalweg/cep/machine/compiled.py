"""A state machine made ready for columns: triggers and guards as numbers and bits, transitions as tables."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.conditions import Condition
from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions import CompiledFunction
from thalweg.records import Int64s, UInt64s
from thalweg.streams.plan.functions import close_names, compile_for

if TYPE_CHECKING:
    from thalweg.cep.machine.definition import StateMachine, Transition

NAMED, BITS = "__trigger", "__bits"
"""Columns of prepared events: the number of the trigger that they name (-1: none), the bits of conditions that hold."""

MOST = 64
PREVIOUS_STATE = -2


@dataclass(slots=True)
class Tables:
    """The definition in numbers. Transitions stand state by state: of state s from `first[s]` to `first[s + 1]`."""

    first: Int64s
    named: Int64s
    when: UInt64s
    guard: UInt64s
    asks: npt.NDArray[np.bool_]
    target: Int64s
    number: Int64s
    timeout: Int64s
    """ms; 0: none."""
    on_timeout: Int64s
    final: npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _Condition:
    """A condition, its bit, and for guards the transitions that ask for it."""

    compiled: CompiledFunction
    bit: int
    asked_by: list[Transition]


class CompiledMachine:
    """A machine over events of one schema (None: not known yet).

    Raises:
        ConfigurationError: more than 64 conditions, or one that can't be compiled.
        PlanError: a column that the events do not have.
    """

    def __init__(self, machine: StateMachine, schema: pl.Schema | None) -> None:
        self.machine = machine
        self.states = list(machine.states)
        self._numbers = {name: number for number, name in enumerate(self.states)}
        names = [t.trigger for t in machine.transitions if isinstance(t.trigger, str)]
        self.named = {name: number for number, name in enumerate(dict.fromkeys(names))}
        if self.named and schema is not None and machine.trigger_column not in schema:
            raise PlanError(
                f"state machine {machine.id!r}: no column {machine.trigger_column!r} to read triggers from"
                f"{close_names(machine.trigger_column, schema)}; name it with trigger_column=…"
            )
        self._conditions: dict[int, _Condition] = {}
        self._schema = schema
        for transition in machine.transitions:
            if not isinstance(transition.trigger, str):
                self._place(transition.trigger, transition)
        self._triggers = list(self._conditions.values())
        for transition in machine.transitions:
            if transition.guard is not None and not takes_instance(transition.guard):
                self._place(transition.guard, transition)
        self._guards = [c for c in self._conditions.values() if c not in self._triggers]
        if len(self._conditions) > MOST:
            raise ConfigurationError(
                f"state machine {machine.id!r} has {len(self._conditions)} different conditions; at most {MOST}"
            )
        self.tables = self._tables()

    @property
    def asks(self) -> bool:
        """Whether a guard looks at the instance."""
        return bool(self.tables.asks.any())

    def number(self, name: str) -> int:
        """The number of a state."""
        return self._numbers[name]

    def _place(self, condition: Any, transition: Transition) -> None:
        known = self._conditions.get(id(condition))
        if known is None:
            where = f"state machine {self.machine.id!r}"
            if isinstance(condition, Condition):
                compiled = condition.compile(self._schema)
            else:
                compiled = compile_for(condition, "predicate", self._schema, where)
            known = self._conditions[id(condition)] = _Condition(compiled, len(self._conditions), [])
        known.asked_by.append(transition)

    def _bit(self, condition: Any) -> int:
        place = self._conditions.get(id(condition))
        return 0 if place is None else 1 << place.bit

    def _tables(self) -> Tables:
        machine, rows = self.machine, []
        first = [0]
        for name in self.states:
            for number, t in enumerate(machine.transitions):
                if name in machine.sources_of(t):
                    target = self._numbers.get(t.target, PREVIOUS_STATE)
                    asks = t.guard is not None and takes_instance(t.guard)
                    named = self.named[t.trigger] if isinstance(t.trigger, str) else -1
                    when = 0 if isinstance(t.trigger, str) else self._bit(t.trigger)
                    rows.append((named, when, self._bit(t.guard), asks, target, number))
            first.append(len(rows))
        columns = list(zip(*rows, strict=True)) or [()] * 6
        states = [machine.states[name] for name in self.states]
        return Tables(
            np.array(first, np.int64),
            np.array(columns[0], np.int64),
            np.array(columns[1], np.uint64),
            np.array(columns[2], np.uint64),
            np.array(columns[3], np.bool_),
            np.array(columns[4], np.int64),
            np.array(columns[5], np.int64),
            np.array([state.timeout_ms or 0 for state in states], np.int64),
            np.array([self._numbers.get(state.on_timeout or "", -1) for state in states], np.int64),
            np.array([machine.is_final(name) for name in self.states], np.bool_),
        )

    # -- events

    def prepare(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, Exception]]:
        """The events that are triggers, with `__trigger` and `__bits`; and the rows on which a condition raised."""
        named = self._names(frame)
        bits, failed = self._evaluate(self._triggers, frame, [np.ones(frame.height, np.bool_)] * len(self._triggers))
        matters = (named >= 0) | (bits != 0)
        matters[list(failed)] = False
        places = np.flatnonzero(matters)
        kept = frame if len(places) == frame.height else frame[places]
        named, bits = named[places], bits[places]
        asked = [self._asked(guard, named, bits) for guard in self._guards]
        guards, refused = self._evaluate(self._guards, kept, asked)
        failed.update({int(places[row]): error for row, error in refused.items()})
        kept = kept.with_columns(pl.Series(NAMED, named), pl.Series(BITS, bits | guards))
        if refused:
            good = np.ones(kept.height, np.bool_)
            good[list(refused)] = False
            kept = kept.filter(good)
        return kept, failed

    def _names(self, frame: pl.DataFrame) -> Int64s:
        column = self.machine.trigger_column
        if not self.named or column not in frame.columns:
            return np.full(frame.height, -1, np.int64)
        texts = frame.get_column(column).cast(pl.String)
        numbers = texts.replace_strict(
            list(self.named), list(self.named.values()), default=-1, return_dtype=pl.Int64
        ).fill_null(-1)
        return numbers.to_numpy().astype(np.int64, copy=True)

    def _asked(self, guard: _Condition, named: Int64s, bits: UInt64s) -> npt.NDArray[np.bool_]:
        """The events of whose triggers a guard speaks: on others it is not called."""
        asked = np.zeros(len(named), np.bool_)
        for transition in guard.asked_by:
            if isinstance(transition.trigger, str):
                asked |= named == self.named[transition.trigger]
            else:
                asked |= (bits & np.uint64(self._bit(transition.trigger))) != 0
        return asked

    @staticmethod
    def _evaluate(
        conditions: Sequence[_Condition], frame: pl.DataFrame, asked: Sequence[npt.NDArray[np.bool_]]
    ) -> tuple[UInt64s, dict[int, Exception]]:
        result = np.zeros(frame.height, np.uint64)
        failed: dict[int, Exception] = {}
        fast = {str(c.bit): c.compiled.exprs for c in conditions if isinstance(c.compiled.exprs, pl.Expr)}
        columns = frame.with_columns(**fast) if fast else frame
        for condition, rows in zip(conditions, asked, strict=True):
            if condition.compiled.vectorised:
                true = columns.get_column(str(condition.bit)).fill_null(False).to_numpy()
            else:
                true = np.zeros(frame.height, np.bool_)
                places = np.flatnonzero(rows)
                results = condition.compiled.evaluate_rows(frame[places])
                true[places] = [bool(value) for value in results.values]
                failed.update({int(places[row]): error for row, error in results.errors})
            result |= true.astype(np.uint64) << np.uint64(condition.bit)
        return result, failed

    def columns(self) -> frozenset[str] | None:
        """The columns that conditions read; None where one of them can't say."""
        read = frozenset({self.machine.trigger_column} if self.named else ())
        for condition in self._conditions.values():
            if condition.compiled.columns is None:
                return None
            read |= condition.compiled.columns
        return read

    def describe(self) -> str:
        """How the conditions run."""
        return "; ".join(_shown(self._conditions.values())) or "triggers by name"


def _shown(conditions: Iterable[_Condition]) -> list[str]:
    return [condition.compiled.describe() for condition in conditions]


def takes_instance(guard: Any) -> bool:
    """Whether a guard takes the event and the instance."""
    if isinstance(guard, pl.Expr) or not callable(guard):
        return False
    try:
        parameters = inspect.signature(guard).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(places) == 2
