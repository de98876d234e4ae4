"""Random patterns and streams in the form of the published cases: what Flink can express, and what it accepts."""

from __future__ import annotations

import random
from typing import Any

Case = dict[str, Any]
NAMES = "abcd"


class Draw:
    """Draws one case.

    Args:
        seed: gives the same case each time.
        absence: whether the pattern may end with `not_followed_by` (and so needs a window).
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self._names: list[str] = []
        self._groups = 0

    def case(self) -> Case:
        steps = self._row(self.dice.randint(1, 4), depth=1, last_may_be_negative=True)
        window = self.dice.randint(2, 12) if steps[-1]["contiguity"] == "not_followed_by" else None
        if window is None and self.dice.random() < 0.4:
            window = self.dice.randint(2, 12)
        events = self._events()
        pattern = {"steps": steps, "within_ms": window, "skip": self._skip()}
        return {"id": f"random/{self.seed}", "events": events, "pattern": pattern, "advance_to_ms": 1_000}

    def _chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def _events(self) -> list[Case]:
        time, events = 0, []
        for number in range(self.dice.randint(4, 9)):
            time += self.dice.choice([0, 1, 1, 2])
            name = self.dice.choice(NAMES[: self.dice.choice([2, 3, 4])])
            price = float(self.dice.randint(1, 3))
            events.append({"ts": time, "id": number, "name": name, "price": price, "volume": None, "type": "Event"})
        return events

    def _skip(self) -> Case:
        what = self.dice.choice(["no_skip"] * 4 + ["skip_to_next", "skip_past_last", "skip_to_first", "skip_to_last"])
        to = self.dice.choice(self._names) if what in ("skip_to_first", "skip_to_last") else None
        return {"strategy": what, "to": to, "throw_if_missing": False}

    def _row(self, length: int, depth: int, *, last_may_be_negative: bool) -> list[Case]:
        steps: list[Case] = []
        for number in range(length):
            last = number == length - 1
            negative = number > 0 and (not last or last_may_be_negative) and self._chance(0.2)
            # Flink refuses an absence beside another, and after what may be left out.
            if negative and not _optional(steps[-1]) and not steps[-1]["contiguity"].startswith("not_"):
                steps.append(self._absence())
            elif depth and self._chance(0.2):
                steps.append(self._group(first=number == 0, depth=depth))
            else:
                steps.append(self._step(first=number == 0, after=steps[-1] if steps else None))
        return steps

    def _named(self, name: str, contiguity: str, condition: Case | None) -> Case:
        return {
            "name": name,
            "contiguity": contiguity,
            "condition": condition,
            "quantifier": {"min": 1, "max": 1},
            "optional": False,
            "greedy": False,
            "inner": "relaxed",
            "until": None,
            "window_ms": None,
        }

    def _absence(self) -> Case:
        kind = self.dice.choice(["not_next", "not_followed_by"])
        return self._named(self._name(absence=True), kind, self._is(self.dice.choice(NAMES)))

    def _name(self, *, absence: bool = False) -> str:
        name = f"{'n' if absence else 's'}{len(self._names)}{self._groups}{self.dice.randint(0, 10**6)}"
        if not absence:
            self._names.append(name)
        return name

    def _is(self, name: str) -> Case:
        return {"field": "name", "op": "==", "value": name}

    def _step(self, *, first: bool, after: Case | None) -> Case:
        name = self._name()
        condition = self._is(self.dice.choice(NAMES))
        step = self._named(name, self._contiguity(first), condition)
        self._quantify(step)
        if step["quantifier"]["max"] != 1 and self._chance(0.2):
            limit = self.dice.randint(3, 7)
            bound = {"iterative": f"sum_of({name!r}, 'price') + price < {limit}", "step": name, "limit": limit}
            step["condition"] = {"all": [condition, bound]}
        absent = after is not None and after["contiguity"].startswith("not_")
        if self._chance(0.2) and not (absent and after["contiguity"] == "not_next"):
            step["optional"] = not absent
        if step["quantifier"]["max"] is None and self._chance(0.15):
            step["until"] = self._is(self.dice.choice(NAMES))
        if (
            step["quantifier"]["max"] is None or step["quantifier"]["max"] != step["quantifier"]["min"]
        ) and self._chance(0.25):
            step["greedy"] = True
        return step

    def _contiguity(self, first: bool) -> str:
        return "begin" if first else self.dice.choice(["next", "followed_by", "followed_by", "followed_by_any"])

    def _quantify(self, step: Case) -> None:
        what = self.dice.random()
        if what < 0.2:
            step["quantifier"] = {"min": self.dice.choice([1, 1, 2]), "max": None}
        elif what < 0.35:
            low, high = self.dice.choice([(2, 2), (1, 2), (1, 3), (2, 3)])
            step["quantifier"] = {"min": low, "max": high}
        if step["quantifier"]["max"] != 1:
            step["inner"] = self.dice.choice(["relaxed", "relaxed", "strict", "any"])

    def _group(self, *, first: bool, depth: int) -> Case:
        self._groups += 1
        step = self._named(f"(group {self._groups})", self._contiguity(first), None)
        steps = self._row(self.dice.randint(1, 3), depth - 1, last_may_be_negative=False)
        steps[0]["optional"] = False  # Flink never comes back from a loop of which all may be left out
        step["group"] = {"steps": steps}
        self._quantify(step)
        step["optional"] = self._chance(0.2)
        return step


def _optional(step: Case) -> bool:
    return bool(step["optional"])
