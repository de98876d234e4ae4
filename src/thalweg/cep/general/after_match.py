"""What a match ends, and when a complete match may go: `AfterMatch`, carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from thalweg.cep.pattern import AfterMatch, Skip
from thalweg.errors import ThalwegError

if TYPE_CHECKING:
    from thalweg.cep.general.runs import KeyRuns, Run, Taken


class SkipFailed(ThalwegError):
    """A match has no event to skip to, and the pattern says that this is an error."""


class Completed(NamedTuple):
    """A match; `time` (ms UTC) is when it became certain, 0 before."""

    start: int
    first: int
    taken: Taken
    time: int = 0


def let_go(key: KeyRuns, after: AfterMatch, names: tuple[str, ...], time: int) -> list[Completed]:
    """Takes from `key` the matches that may go, and ends what each of them ends.

    Matches go in the order of their first event: one waits while a partial match that began earlier is open, for that
    one's match may end it.

    Raises:
        SkipFailed: there is no event to skip to, or it is the match's first, which would begin the same match again.
    """
    if after.strategy is Skip.NONE:
        gone = [match._replace(time=time) for match in key.waiting]
        key.waiting = []
        return gone
    gone = []
    while key.waiting:
        match = min(key.waiting, key=_first)
        if any(_first(run) < _first(match) for run in key.runs):
            break
        key.waiting.remove(match)
        gone.append(match._replace(time=time))
        bound = _bound(match, after, names)
        if bound is not None:
            key.runs = [run for run in key.runs if run.first >= bound]
            key.waiting = [other for other in key.waiting if other.first >= bound]
    return gone


def _first(item: Run | Completed) -> int:
    return item.first


def _bound(match: Completed, after: AfterMatch, names: tuple[str, ...]) -> int | None:
    """What began before the event of this id ends; None: nothing does."""
    if after.strategy is Skip.TO_NEXT:
        return match.first + 1
    if after.strategy is Skip.PAST_LAST:
        return match.taken.id + 1
    found: int | None = None
    taken: Taken | None = match.taken
    while taken is not None:  # from the last event back
        if names[taken.step] == after.step:
            found = taken.id
            if after.strategy is Skip.TO_LAST:
                break
        taken = taken.before
    if after.required and found is None:
        raise SkipFailed(f"a match has no event for step {after.step!r}, to which it is to skip")
    if after.required and found == match.first:
        raise SkipFailed(f"a match can't skip to its own first event (step {after.step!r})")
    return found
