"""A matcher by definition: tries every way, knows no automaton. For patterns without greed, `until` and absence inside.

Events have a kind and a time. A match is a tuple of (step, position), in order of position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

from thalweg.cep.pattern import AnyOf, Contiguity, Element, Group, Pattern, Permutation, Step, inside

Path = tuple[tuple[str, int], ...]
Then = Callable[[Path], Iterator[Path]]
How = Contiguity | int
"""What may lie before the next event; or the position at which it is."""
Fits = Callable[[Step, int], bool]


class Reference:
    """Every match of a pattern with `NO_SKIP`, each as often as there are ways to it.

    Args:
        times: of the events.
        fits: whether a step's condition holds at a position.
    """

    def __init__(self, pattern: Pattern, times: Sequence[int], fits: Fits) -> None:
        self.pattern, self.times, self._fits = pattern, times, fits
        steps = pattern.steps
        last = steps[-1]
        self._absent = last if isinstance(last, Step) and last.contiguity is Contiguity.NOT_FOLLOWED_BY else None
        self._steps = steps[:-1] if self._absent else steps

    def matches(self) -> list[Path]:
        found = []
        for start in range(len(self.times)):
            found += [path for path in self._row(self._steps, 0, (), start, lambda p: iter([p])) if self._holds(path)]
        return found

    def _holds(self, path: Path) -> bool:
        times = [self.times[at] for _, at in path]
        within, gap = self.pattern.within, self.pattern.max_gap
        if within is not None and times[-1] - times[0] >= within:
            return False
        if gap is not None and any(b - a >= gap for a, b in pairwise(times)):
            return False
        if self._absent is None:
            return True
        assert within is not None
        last = self._steps[-1]
        assert isinstance(last, Step)
        since = next((at for name, at in path if name == last.name), path[-1][1])  # its first repetition
        after = range(since + 1, len(self.times))
        return not any(self._fits(self._absent, at) for at in after if self.times[at] < times[0] + within)

    def _row(
        self,
        row: Sequence[Element],
        index: int,
        path: Path,
        how: How,
        then: Then,
        inner: Contiguity | None = None,
    ) -> Iterator[Path]:
        """The elements from `index` on. `inner`: of the group that the first of them heads."""
        if index == len(row):
            yield from then(path)
            return
        element = row[index]

        def rest(path: Path) -> Iterator[Path]:
            following = row[index + 1].contiguity if index + 1 < len(row) else Contiguity.RELAXED
            return self._row(row, index + 1, path, following, then)

        yield from self._repeat(element, 1, path, how, rest, inner)
        if element.quantifier.optional:
            yield from rest(path)

    def _repeat(
        self, element: Element, count: int, path: Path, how: How, then: Then, inner: Contiguity | None = None
    ) -> Iterator[Path]:
        quantifier = element.quantifier
        inner = inner or quantifier.inner

        def after(path: Path) -> Iterator[Path]:
            if count >= quantifier.minimum:
                yield from then(path)
            if quantifier.maximum is None or count < quantifier.maximum:
                yield from self._repeat(element, count + 1, path, inner, then, inner)

        yield from self._once(element, path, how, after)

    def _once(self, element: Element, path: Path, how: How, then: Then) -> Iterator[Path]:
        if isinstance(element, Step):
            for at in self._reach([element], path, how):
                yield from then((*path, (element.name, at)))
        elif isinstance(element, Group):
            yield from self._row(element.steps, 0, path, how, then, element.quantifier.inner)
        elif isinstance(element, AnyOf):
            for at in self._reach(element.branches, path, how):
                for branch in element.branches:
                    if self._begins(branch, at):
                        yield from self._row(branch.steps, 0, path, at, then)
        else:
            yield from self._order(element, element.elements, path, how, then)

    def _order(
        self, element: Permutation, left: tuple[Element, ...], path: Path, how: How, then: Then
    ) -> Iterator[Path]:
        if not left:
            yield from then(path)
        for at in self._reach(left, path, how) if left else ():
            for number, one in enumerate(left):
                rest = (*left[:number], *left[number + 1 :])
                if self._begins(one, at):
                    further = partial(self._order, element, rest, how=element.between, then=then)
                    yield from self._repeat(one, 1, path, at, further)

    def _reach(self, elements: Sequence[Element], path: Path, how: How) -> list[int]:
        """Where the next event may be, which begins any of the elements."""
        after = path[-1][1] + 1 if path else 0
        if isinstance(how, int) and not isinstance(how, Contiguity):
            candidates, most = range(how, how + 1), 1
        elif how is Contiguity.STRICT:
            candidates, most = range(after, min(after + 1, len(self.times))), 1
        else:
            candidates, most = range(after, len(self.times)), len(self.times) if how is Contiguity.ANY else 1
        return [at for at in candidates if any(self._begins(element, at) for element in elements)][:most]

    def _begins(self, element: Element, at: int) -> bool:
        if isinstance(element, Step):
            return self._fits(element, at)
        parts = inside(element)
        return self._begins(parts[0], at) if isinstance(element, Group) else any(self._begins(p, at) for p in parts)
