"""The partial matches of one key, and what an event makes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from thalweg.cep.general.after_match import Completed, let_go
from thalweg.cep.general.states import Automaton, ends, moves
from thalweg.cep.partial import PartialMatch
from thalweg.cep.pattern import Pattern


class Taken(NamedTuple):
    """An event of a partial match, and those before it: partial matches that begin alike share their beginning."""

    before: Taken | None
    step: int
    id: int
    event: Any
    """The event as a row, for iterative conditions; None where the pattern has none."""


class Run(NamedTuple):
    """A partial match. Times are ms UTC; `first` is the id of its first event: ids grow with the order of events."""

    state: int
    start: int
    first: int
    last: int
    taken: Taken


class View:
    """What iterative conditions are asked with; the partial match is put together once it is looked at."""

    __slots__ = ("_names", "_partial", "event", "taken")

    def __init__(self, event: Any, taken: Taken | None, names: tuple[str, ...]) -> None:
        self.event = event
        self.taken = taken
        self._names = names
        self._partial: PartialMatch | None = None

    @property
    def partial(self) -> PartialMatch:
        if self._partial is None:
            events: dict[str, list[Any]] = {}
            for taken in in_order(self.taken):
                events.setdefault(self._names[taken.step], []).append(taken.event)
            self._partial = PartialMatch(events)
        return self._partial


class KeyRuns:
    """Of one key: its partial matches, and complete ones that wait for older partial matches to end."""

    __slots__ = ("runs", "waiting")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.waiting: list[Completed] = []

    def __bool__(self) -> bool:
        return bool(self.runs or self.waiting)


class Machine:
    """Moves partial matches of one pattern; holds none itself.

    Args:
        pattern: what to look for.
        automaton: the pattern, compiled.
    """

    def __init__(self, pattern: Pattern, automaton: Automaton) -> None:
        self.automaton = automaton
        self.names = pattern.step_names
        self._after_match = pattern.after_match
        self._within = pattern.within
        self._max_gap = pattern.max_gap
        self._absences = automaton.absences

    def deadline(self, run: Run) -> int | None:
        """The first time at which no further event can belong to the partial match; None: there is no such time."""
        limits = []
        if self._within is not None:
            limits.append(run.start + self._within)
        if self._max_gap is not None and self._absences[run.state] != run.state:
            limits.append(run.last + self._max_gap)
        return min(limits, default=None)

    def expire(self, key: KeyRuns, time: int) -> tuple[list[Completed], list[Run]]:
        """Ends the runs whose deadline has come by `time`; returns the matches this brings, and those timed out.

        A pattern that ends with an absence is complete when `within` has passed without the forbidden event.
        """
        limits = [(self.deadline(run), run) for run in key.runs]
        due = sorted(((limit, run) for limit, run in limits if limit is not None and limit <= time), key=_deadline)
        if not due:
            return [], []
        matches: list[Completed] = []
        timed_out: list[Run] = []
        while due:  # one deadline after the other, so that what each lets go does not depend on when it is looked at
            moment = due[0][0]
            now = [run for limit, run in due if limit == moment and run in key.runs]
            due = [(limit, run) for limit, run in due if limit != moment]
            ended = set(map(id, now))
            key.runs = [run for run in key.runs if id(run) not in ended]
            for run in now:
                absence = self._absences[run.state]
                if absence < 0:
                    timed_out.append(run)
                elif self._within is not None and moment >= run.start + self._within:
                    key.waiting.append(Completed(run.start, run.first, run.taken))
                else:  # no event may extend it any more: only the absence is awaited
                    waits = run._replace(state=absence)
                    key.runs = sorted([*key.runs, waits], key=_first)
                    due = _with_deadline(due, self.deadline(waits), waits, time)
            matches += let_go(key, self._after_match, self.names, moment)
        return matches, timed_out

    def process(self, key: KeyRuns, time: int, bits: int, event: int, row: Any = None) -> list[Completed]:
        """Offers an event to all runs of its key, and as the first of a new one; returns the matches.

        Args:
            event: its id.
            row: the event itself, where conditions are iterative.
        """
        before, key.runs = key.runs, []
        complete: list[Completed] = []
        for run in before:
            self._offer(key, run, time, bits, event, row, complete)
        self._begin(key, time, bits, event, row, complete)
        key.waiting += complete
        return let_go(key, self._after_match, self.names, time) if key.waiting else []

    def _offer(
        self, key: KeyRuns, run: Run, time: int, bits: int, event: int, row: Any, complete: list[Completed]
    ) -> None:
        states = self.automaton.states
        view = View(row, run.taken, self.names) if row is not None else None
        moved: list[Run] = []
        stopped = False
        for source, edge in moves(states[run.state], bits, view):
            target = edge.target
            if target.kind == "stop":
                stopped = True
            elif edge.action == "ignore":
                if target.kind == "final":
                    complete.append(Completed(run.start, run.first, run.taken))
                else:
                    moved.append(run if target.number == run.state else run._replace(state=target.number))
            else:
                taken = Taken(run.taken, source.step, event, row)
                if target.kind != "final":
                    moved.append(Run(target.number, run.start, run.first, time, taken))
                if target.kind == "final" or ends(target, bits, view):
                    complete.append(Completed(run.start, run.first, taken))
        if not stopped:
            key.runs += moved

    def _begin(self, key: KeyRuns, time: int, bits: int, event: int, row: Any, complete: list[Completed]) -> None:
        view = View(row, None, self.names) if row is not None else None
        for source, edge in moves(self.automaton.start, bits, view):
            if edge.action != "take" or edge.target.kind == "stop":
                continue
            taken = Taken(None, source.step, event, row)
            if edge.target.kind != "final":
                key.runs.append(Run(edge.target.number, time, event, time, taken))
            if edge.target.kind == "final" or ends(edge.target, bits, view):
                complete.append(Completed(time, event, taken))


def in_order(taken: Taken | None) -> list[Taken]:
    """The events of a partial match, oldest first."""
    events: list[Taken] = []
    while taken is not None:
        events.append(taken)
        taken = taken.before
    events.reverse()
    return events


def _first(run: Run) -> int:
    return run.first


def _with_deadline(due: list[tuple[int, Run]], deadline: int | None, run: Run, time: int) -> list[tuple[int, Run]]:
    """The runs that are due by `time`, with one more if it is."""
    return due if deadline is None or deadline > time else sorted([*due, (deadline, run)], key=_deadline)


def _deadline(entry: tuple[int, Run]) -> int:
    return entry[0]
