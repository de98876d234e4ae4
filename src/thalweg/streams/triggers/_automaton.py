"""Numba kernel of a trigger: what one event does to its state, whether it fires, what firing does to its state.

The state of a window is one number per part of the trigger (`program`): events counted, the time on the clock at which
to fire, whether the watermark has fired (AfterWatermark), which of its triggers is at work (AfterEach).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from thalweg.streams.triggers.program import ALL, ANY, CLOCK, COUNT, DEFAULT, EACH, REPEAT, WATERMARK, Int64s

ARMS, MAY_FIRE = 1, 2
"""What an event may do: have the trigger asked when the watermark passes the window's end; make it fire before that."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take_event(program: Any, state: Int64s, clock: int, marks: Int64s) -> int:
    """Takes one event; returns what it has done, `ARMS` and `MAY_FIRE` added up.

    A trigger fires before the watermark has passed only by a count that is reached or a time that has come. Without
    either in the parts that are at work, `ready` need not be asked: most events end here.
    """
    told = 0
    marks[:] = 0
    marks[len(program.kind) - 1] = 1
    for n in range(len(program.kind) - 1, -1, -1):
        if marks[n] == 0:
            continue
        kind, first = program.kind[n], program.first[n]
        if kind == COUNT:
            state[n] += 1
            if state[n] >= program.argument[n]:
                told |= MAY_FIRE
        elif kind == DEFAULT:
            told |= ARMS
        elif kind == CLOCK:
            if state[n] == 0:
                state[n] = clock + program.argument[n]
            if clock >= state[n]:
                told |= MAY_FIRE
        elif kind == EACH:
            if state[n] < program.number[n]:
                marks[program.children[first + state[n]]] = 1
        elif kind == WATERMARK:
            early, late = program.children[first], program.children[first + 1]
            if state[n] == 1 and late >= 0:
                marks[late] = 1
            else:
                told |= ARMS
                if early >= 0:
                    marks[early] = 1
        else:
            for i in range(program.number[n]):
                marks[program.children[first + i]] = 1
    return told


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def ready(program: Any, state: Int64s, passed: bool, clock: int, marks: Int64s) -> bool:
    """Whether it would fire now, `passed`: with the watermark past the end. Leaves in `marks` which parts would."""
    for n in range(len(program.kind)):
        kind, first = program.kind[n], program.first[n]
        yes = False
        if kind == COUNT:
            yes = state[n] >= program.argument[n]
        elif kind == DEFAULT:
            yes = passed
        elif kind == CLOCK:
            yes = state[n] != 0 and clock >= state[n]
        elif kind == REPEAT:
            yes = marks[program.children[first]] == 1
        elif kind == EACH:
            yes = state[n] < program.number[n] and marks[program.children[first + state[n]]] == 1
        elif kind == WATERMARK:
            early, late = program.children[first], program.children[first + 1]
            before = passed or (early >= 0 and marks[early] == 1)
            yes = marks[late] == 1 if state[n] == 1 and late >= 0 else before
        else:
            yes = kind == ALL
            for i in range(program.number[n]):
                one = marks[program.children[first + i]] == 1
                yes = (yes and one) if kind == ALL else (yes or one)
        marks[n] = 1 if yes else 0
    return bool(marks[len(program.kind) - 1] == 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def fire(program: Any, state: Int64s, passed: bool, marks: Int64s, fired: Int64s) -> bool:
    """Fires, after `ready` was true; true where that finished it. `marks` as `ready` left it."""
    _who_fires(program, state, passed, marks, fired)
    # Forwards now: in `marks` what has finished.
    for n in range(len(program.kind)):
        if fired[n] == 0:
            continue
        kind, first = program.kind[n], program.first[n]
        done = kind in (COUNT, CLOCK)
        if kind == REPEAT:
            child = program.children[first]
            if marks[child] == 1:
                state[child + 1 - program.size[child] : child + 1] = 0
        elif kind == EACH:
            if marks[program.children[first + state[n]]] == 1:
                state[n] += 1
            done = state[n] == program.number[n]
        elif kind == WATERMARK:
            late = program.children[first + 1]
            if passed and not (state[n] == 1 and late >= 0):
                state[n] = 1
                done = late < 0
        elif kind in (ANY, ALL):
            done = kind == ALL
            for i in range(program.number[n]):
                child = program.children[first + i]
                if fired[child] == 1:
                    one = marks[child] == 1
                    done = (done and one) if kind == ALL else (done or one)
        marks[n] = 1 if done else 0
    return bool(marks[len(program.kind) - 1] == 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _who_fires(program: Any, state: Int64s, passed: bool, marks: Int64s, fired: Int64s) -> None:
    fired[:] = 0
    fired[len(program.kind) - 1] = 1
    for n in range(len(program.kind) - 1, -1, -1):
        if fired[n] == 0:
            continue
        kind, first = program.kind[n], program.first[n]
        if kind == REPEAT:
            fired[program.children[first]] = 1
        elif kind == EACH:
            fired[program.children[first + state[n]]] = 1
        elif kind == WATERMARK:
            early, late = program.children[first], program.children[first + 1]
            if state[n] == 1 and late >= 0:
                fired[late] = 1
            elif not passed and early >= 0:
                fired[early] = 1
        elif kind in (ANY, ALL):
            for i in range(program.number[n]):
                child = program.children[first + i]
                fired[child] = marks[child]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def merge(program: Any, into: Int64s, other: Int64s) -> None:
    """Takes another window's state: counts add up, the earlier time on the clock counts, and who is further ahead."""
    for n in range(len(program.kind)):
        kind = program.kind[n]
        if kind == COUNT:
            into[n] += other[n]
        elif kind == CLOCK:
            if into[n] == 0 or (other[n] != 0 and other[n] < into[n]):
                into[n] = other[n]
        else:
            into[n] = max(into[n], other[n])


def scratch(program: Any) -> tuple[Int64s, Int64s]:
    """The two arrays that the functions above write to."""
    return np.zeros(len(program.kind), dtype=np.int64), np.zeros(len(program.kind), dtype=np.int64)
