"""What each kind of event does in each state of an automaton: looked up instead of asked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from thalweg.cep.general.states import Automaton, Edge, State, ends, moves
from thalweg.records import Int64s, UInt64s

TAKES, KEEPS, COMPLETES = 1, 2, 4
_DIRECT = 12
"""Up to so many conditions, kinds are found by their bits in an array; beyond, in a dictionary."""

Move = tuple[int, int, int]
"""What it does (bits), the step that takes the event, the state it leads to."""


class MoveTable:
    """The moves of one automaton whose tests look at the event alone.

    Events with the same condition bits are one *kind*. Kinds are added as they occur, so that the table has as many
    rows as there are combinations of conditions in the data, not as there could be.

    Args:
        automaton: no iterative tests.
        bits: how many conditions it has.
    """

    def __init__(self, automaton: Automaton, bits: int) -> None:
        self._automaton = automaton
        self._states = len(automaton.states)
        self._kinds: dict[int, int] = {}
        self._direct: Int64s | None = np.full(1 << bits, -1, np.int64) if bits <= _DIRECT else None
        self.spans: npt.NDArray[np.int64] = np.zeros((0, self._states + 1, 3), np.int64)
        """Per kind and state: where its moves begin, how many there are, whether the partial match ends. Behind the
        last state: the moves by which a match begins."""
        self._moves: list[Move] = []
        self.moves: npt.NDArray[np.int64] = np.zeros((0, 3), np.int64)
        self.fan_out = 1
        """The most moves of one state for one event."""

    def kinds(self, masks: UInt64s) -> Int64s:
        """The kind of each event."""
        if self._direct is not None:
            found: Int64s = self._direct[masks]
            if found.min(initial=0) < 0:
                self._add(np.unique(masks[found < 0]).tolist())
                found = self._direct[masks]
            return found
        distinct, places = np.unique(masks, return_inverse=True)
        self._add(mask for mask in distinct.tolist() if mask not in self._kinds)
        kinds: Int64s = np.array([self._kinds[mask] for mask in distinct.tolist()], dtype=np.int64)
        return kinds[places]

    def _add(self, masks: Iterable[int]) -> None:
        spans = []
        for mask in masks:
            kind = self._kinds[mask] = len(self._kinds)
            if self._direct is not None:
                self._direct[mask] = kind
            rows = [self._of_state(state, mask) for state in self._automaton.states]
            spans.append([*rows, self._of_begin(mask)])
        if spans:
            self.spans = np.concatenate([self.spans, np.array(spans, dtype=np.int64)])
            self.moves = np.array(self._moves, dtype=np.int64).reshape(-1, 3)

    def _of_state(self, state: State, mask: int) -> tuple[int, int, int]:
        found = list(moves(state, mask, None))
        dead = any(edge.target.kind == "stop" for _, edge in found)
        return self._span([_move(source, edge, mask) for source, edge in found if edge.target.kind != "stop"], dead)

    def _of_begin(self, mask: int) -> tuple[int, int, int]:
        found = moves(self._automaton.start, mask, None)
        begins = [(s, edge) for s, edge in found if edge.action == "take" and edge.target.kind != "stop"]
        return self._span([_move(source, edge, mask) for source, edge in begins], dead=False)

    def _span(self, found: list[Move], dead: bool) -> tuple[int, int, int]:
        at = len(self._moves)
        self._moves += found
        self.fan_out = max(self.fan_out, 2 * len(found))  # a move may keep and complete
        return at, len(found), int(dead)


def _move(source: State, edge: Edge, mask: int) -> Move:
    """An event passed over leads to a match only where nothing more is awaited; one taken, also where what is awaited
    may be left out."""
    target = edge.target
    final = target.kind == "final"
    if edge.action == "ignore":
        return (COMPLETES if final else KEEPS), -1, target.number
    complete = final or ends(target, mask, None)
    return TAKES | (0 if final else KEEPS) | (COMPLETES if complete else 0), source.step, target.number
