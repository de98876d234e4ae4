"""A trigger as one flat array, so that a kernel can ask it for millions of windows.

Its parts are numbered in post-order: children before parents, each part's descendants just before it, the whole last.
So what goes up runs forwards over the numbers, what goes down runs backwards, and a reset clears a range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thalweg.streams.triggers.definitions import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
    Trigger,
)

Int64s = npt.NDArray[np.int64]

DEFAULT, COUNT, CLOCK, WATERMARK, REPEAT, ANY, ALL, EACH = range(8)
_KINDS: dict[type[Trigger], int] = {
    DefaultTrigger: DEFAULT,
    AfterCount: COUNT,
    AfterProcessingTime: CLOCK,
    AfterWatermark: WATERMARK,
    Repeatedly: REPEAT,
    AfterAny: ANY,
    AfterAll: ALL,
    AfterEach: EACH,
}


KIND, ARGUMENT, SIZE, NUMBER, CHILD = range(5)
"""Columns of a program. Part n has SIZE parts with itself and NUMBER children, the first of which is in column CHILD,
the next in the column after it; those of AfterWatermark are (early, late), -1 for none."""


@dataclass
class _Part:
    kind: int
    argument: int
    size: int
    children: list[int]


def compile_trigger(trigger: Trigger) -> Int64s:
    """The trigger's program: a row per part."""
    parts: list[_Part] = []
    _add(trigger, parts)
    program = np.full((len(parts), CHILD + max(len(part.children) for part in parts)), -1, dtype=np.int64)
    for row, part in zip(program, parts, strict=True):
        row[:CHILD] = part.kind, part.argument, part.size, len(part.children)
        row[CHILD : CHILD + len(part.children)] = part.children
    return program


def _add(trigger: Trigger, parts: list[_Part]) -> int:
    before = len(parts)
    if isinstance(trigger, AfterWatermark):
        both = (trigger.early, trigger.late)
        children = [-1 if one is None else _add(_repeated(one), parts) for one in both]
    else:
        children = [_add(one, parts) for one in trigger.parts]
    argument = getattr(trigger, "count", getattr(trigger, "delay", 0))
    parts.append(_Part(_KINDS[type(trigger)], argument, len(parts) + 1 - before, children))
    return len(parts) - 1


def _repeated(trigger: Trigger) -> Trigger:
    return trigger if isinstance(trigger, Repeatedly) else Repeatedly(trigger)
