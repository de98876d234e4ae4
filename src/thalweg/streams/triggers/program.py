"""A trigger as flat arrays, so that a kernel can ask it for millions of windows.

Its parts are numbered in post-order: children before parents, each part's descendants just before it, the whole last.
So what goes up runs forwards over the numbers, what goes down runs backwards, and a reset clears a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Program(NamedTuple):
    """What the kernels take. Part n has `kind[n]`, `size[n]` parts with itself, and the children
    `children[first[n] : first[n] + number[n]]`; those of AfterWatermark are (early, late), -1 for none."""

    kind: Int64s
    argument: Int64s
    size: Int64s
    first: Int64s
    number: Int64s
    children: Int64s


@dataclass
class _Part:
    kind: int
    argument: int
    size: int
    children: list[int]


def compile_trigger(trigger: Trigger) -> Program:
    """The trigger's program."""
    parts: list[_Part] = []
    _add(trigger, parts)
    first = np.cumsum([0, *(len(part.children) for part in parts)])[:-1]
    return Program(
        kind=_array([part.kind for part in parts]),
        argument=_array([part.argument for part in parts]),
        size=_array([part.size for part in parts]),
        first=_array(first),
        number=_array([len(part.children) for part in parts]),
        children=_array([child for part in parts for child in part.children]),
    )


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


def _array(values: Any) -> Int64s:
    return np.array(values, dtype=np.int64)
