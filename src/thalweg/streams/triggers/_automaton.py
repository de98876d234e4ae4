"""Numba kernel of a trigger: what one event does to its state, whether it fires, what firing does to its state.

The state of a window is one number per part of the trigger (`program`): events counted, the time on the clock at which
to fire, whether the watermark has fired (AfterWatermark), which of its triggers is at work (AfterEach). It stands in
row `slot` of `facts`, from column WIDTH on. Arrays go from function to function one by one: a tuple of them costs an
event more than all else.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from thalweg.streams.triggers._facts import WIDTH
from thalweg.streams.triggers.program import (
    ALL,
    ANY,
    ARGUMENT,
    CHILD,
    CLOCK,
    COUNT,
    DEFAULT,
    EACH,
    KIND,
    NUMBER,
    REPEAT,
    SIZE,
    WATERMARK,
    Int64s,
)

ARMS, MAY_FIRE = 1, 2
"""What an event may do: have the trigger asked when the watermark passes the window's end; make it fire before that."""
MARKS, FIRED = 0, 1
"""Rows of the array that the functions write to."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take_event(program: Int64s, facts: Int64s, slot: int, clock: int, marks: Int64s) -> int:
    """Takes one event; returns what it has done, `ARMS` and `MAY_FIRE` added up.

    A trigger fires before the watermark has passed only by a count that is reached or a time that has come. Without
    either in the parts that are at work, `ready` need not be asked: most events end here.
    """
    told = 0
    for n in range(len(program) - 1):
        marks[MARKS, n] = 0
    marks[MARKS, len(program) - 1] = 1
    for n in range(len(program) - 1, -1, -1):
        if marks[MARKS, n] == 0:
            continue
        kind, state = program[n, KIND], facts[slot, WIDTH + n]
        if kind == COUNT:
            facts[slot, WIDTH + n] = state + 1
            if state + 1 >= program[n, ARGUMENT]:
                told |= MAY_FIRE
        elif kind == DEFAULT:
            told |= ARMS
        elif kind == CLOCK:
            if state == 0:
                state = clock + program[n, ARGUMENT]
                facts[slot, WIDTH + n] = state
            if clock >= state:
                told |= MAY_FIRE
        elif kind == EACH:
            if state < program[n, NUMBER]:
                marks[MARKS, program[n, CHILD + state]] = 1
        elif kind == WATERMARK:
            early, late = program[n, CHILD], program[n, CHILD + 1]
            if state == 1 and late >= 0:
                marks[MARKS, late] = 1
            else:
                told |= ARMS
                if early >= 0:
                    marks[MARKS, early] = 1
        else:
            for i in range(program[n, NUMBER]):
                marks[MARKS, program[n, CHILD + i]] = 1
    return told


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def ready(program: Int64s, facts: Int64s, slot: int, passed: bool, clock: int, marks: Int64s) -> bool:
    """Whether it would fire now, `passed`: with the watermark past the end. Leaves in MARKS which parts would."""
    for n in range(len(program)):
        kind, state = program[n, KIND], facts[slot, WIDTH + n]
        yes = False
        if kind == COUNT:
            yes = state >= program[n, ARGUMENT]
        elif kind == DEFAULT:
            yes = passed
        elif kind == CLOCK:
            yes = state != 0 and clock >= state
        elif kind == REPEAT:
            yes = marks[MARKS, program[n, CHILD]] == 1
        elif kind == EACH:
            yes = state < program[n, NUMBER] and marks[MARKS, program[n, CHILD + state]] == 1
        elif kind == WATERMARK:
            early, late = program[n, CHILD], program[n, CHILD + 1]
            before = passed or (early >= 0 and marks[MARKS, early] == 1)
            yes = marks[MARKS, late] == 1 if state == 1 and late >= 0 else before
        else:
            yes = kind == ALL
            for i in range(program[n, NUMBER]):
                one = marks[MARKS, program[n, CHILD + i]] == 1
                yes = (yes and one) if kind == ALL else (yes or one)
        marks[MARKS, n] = 1 if yes else 0
    return bool(marks[MARKS, len(program) - 1] == 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def fire(program: Int64s, facts: Int64s, slot: int, passed: bool, marks: Int64s) -> bool:
    """Fires, after `ready` was true; true where that finished it. `marks` as `ready` left it."""
    _who_fires(program, facts, slot, passed, marks)
    # Forwards now: in MARKS what has finished.
    for n in range(len(program)):
        if marks[FIRED, n] == 0:
            continue
        kind, state = program[n, KIND], facts[slot, WIDTH + n]
        done = kind in (COUNT, CLOCK)
        if kind == REPEAT:
            child = program[n, CHILD]
            if marks[MARKS, child] == 1:
                for part in range(child + 1 - program[child, SIZE], child + 1):
                    facts[slot, WIDTH + part] = 0
        elif kind == EACH:
            if marks[MARKS, program[n, CHILD + state]] == 1:
                state += 1
                facts[slot, WIDTH + n] = state
            done = state == program[n, NUMBER]
        elif kind == WATERMARK:
            late = program[n, CHILD + 1]
            if passed and not (state == 1 and late >= 0):
                facts[slot, WIDTH + n] = 1
                done = late < 0
        elif kind in (ANY, ALL):
            done = kind == ALL
            for i in range(program[n, NUMBER]):
                child = program[n, CHILD + i]
                if marks[FIRED, child] == 1:
                    one = marks[MARKS, child] == 1
                    done = (done and one) if kind == ALL else (done or one)
        marks[MARKS, n] = 1 if done else 0
    return bool(marks[MARKS, len(program) - 1] == 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _who_fires(program: Int64s, facts: Int64s, slot: int, passed: bool, marks: Int64s) -> None:
    marks[FIRED, :] = 0
    marks[FIRED, len(program) - 1] = 1
    for n in range(len(program) - 1, -1, -1):
        if marks[FIRED, n] == 0:
            continue
        kind, state = program[n, KIND], facts[slot, WIDTH + n]
        if kind == REPEAT:
            marks[FIRED, program[n, CHILD]] = 1
        elif kind == EACH:
            marks[FIRED, program[n, CHILD + state]] = 1
        elif kind == WATERMARK:
            early, late = program[n, CHILD], program[n, CHILD + 1]
            if state == 1 and late >= 0:
                marks[FIRED, late] = 1
            elif not passed and early >= 0:
                marks[FIRED, early] = 1
        elif kind in (ANY, ALL):
            for i in range(program[n, NUMBER]):
                child = program[n, CHILD + i]
                marks[FIRED, child] = marks[MARKS, child]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def merge(program: Int64s, facts: Int64s, slot: int, other: int) -> None:
    """Takes another window's state: counts add up, the earlier time on the clock counts, and who is further ahead."""
    for n in range(len(program)):
        kind, mine, theirs = program[n, KIND], facts[slot, WIDTH + n], facts[other, WIDTH + n]
        if kind == COUNT:
            mine += theirs
        elif kind == CLOCK:
            if mine == 0 or (theirs != 0 and theirs < mine):
                mine = theirs
        else:
            mine = max(mine, theirs)
        facts[slot, WIDTH + n] = mine


def scratch(program: Int64s) -> Int64s:
    """The array that the functions above write to."""
    return np.zeros((2, len(program)), dtype=np.int64)
