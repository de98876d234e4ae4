"""Which events can begin a partial match, known from their bits alone: most events of most keys can't, and cost little.

A condition on the partial match may say either, so what follows from it is open.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.cep.general.edge_tests import Both, Constant, Either, HasBit, Not, Test
from thalweg.cep.general.states import State
from thalweg.records import Int64s, UInt64s

YES, NO = 1, 2


def outcomes(test: Test, bits: int) -> int:
    """What a test can say of an event with these bits: `YES`, `NO`, or both together."""
    if isinstance(test, Constant):
        return YES if test.value else NO
    if isinstance(test, HasBit):
        return YES if test(bits, None) else NO
    if isinstance(test, Not):
        inner = outcomes(test.test, bits)
        return (YES if inner & NO else 0) | (NO if inner & YES else 0)
    if isinstance(test, Both):
        one, other = outcomes(test.first, bits), outcomes(test.second, bits)
        return (one & other & YES) | ((one | other) & NO)
    if isinstance(test, Either):
        parts = [outcomes(part, bits) for part in test.tests]
        yes = YES if any(part & YES for part in parts) else 0
        return yes | (NO if all(part & NO for part in parts) else 0)
    return YES | NO


def can_begin(start: State, bits: int) -> bool:
    """Whether an event with these bits may be taken in the first state, or in one behind its proceed edges."""
    stack, seen = [start], {start}
    while stack:
        for edge in stack.pop().edges:
            if not outcomes(edge.test, bits) & YES:
                continue
            if edge.action == "take":
                return True
            if edge.action == "proceed" and edge.target not in seen:
                seen.add(edge.target)
                stack.append(edge.target)
    return False


class Beginnings:
    """Finds the events that matter: those of keys that have partial matches, or may have them by then."""

    def __init__(self, start: State) -> None:
        self._start = start
        self._known: dict[int, bool] = {}

    def matter(self, codes: Int64s, masks: UInt64s, alive: npt.NDArray[np.bool_]) -> Int64s:
        """The places of these events.

        Args:
            alive: for each key code, whether the key has partial matches before the first event.
        """
        distinct, kinds = np.unique(masks, return_inverse=True)
        begins = np.array([self._begins(mask) for mask in distinct.tolist()], dtype=np.bool_)[kinds]
        places = np.arange(len(codes))
        first = np.full(len(alive), len(codes), np.int64)
        np.minimum.at(first, codes[begins], places[begins])
        first[alive] = 0
        return np.flatnonzero(places >= first[codes])

    def _begins(self, mask: int) -> bool:
        if mask not in self._known:
            self._known[mask] = can_begin(self._start, mask)
        return self._known[mask]
