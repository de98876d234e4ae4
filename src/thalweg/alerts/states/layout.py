"""Where things stand in the arrays of the states under way."""

from __future__ import annotations

from thalweg.streams.state.due_queue import NEVER

__all__ = ["NEVER"]

(
    ALIVE, RULE, CODE, NEXT, PREVIOUS, GROUP, SINCE, LAST, TOLD, ENDED, MORE, FIRING, EVENT, SAVED, WIDTH,
) = range(15)  # fmt: skip
"""The columns of states. `NEXT`, `PREVIOUS`: of the same key; `FIRING`: it has held long enough; `MORE`: events that
its alert has not been told of; `EVENT`: the number of the one that it began with; `SAVED`: a snapshot has it."""

HOLD, RESOLVE, ABSENT, SETTINGS = range(4)
"""The columns of settings, by rule: ms; -1 where the rule has none."""

BEGUN, GOES_ON, OVER, RESOLVED = range(4)
"""Kinds of changes."""

KIND, OF_RULE, OF_CODE, AT, BEGAN, COUNT, ROW, OF_EVENT, CHANGE = range(9)
"""The columns of changes."""

FREE, CHANGES, TOUCHED, GONE, CURSOR = range(5)
"""The places of the cursor: the first free slot (a list by `NEXT`), and how many rows the outputs have."""
