"""Which of the hidden attacks were found, and what was reported that is none."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from thalweg.demo.attacks import TICK_MS, Kind, Scenario, scenarios


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of ticks that one run of the demo generated."""

    seed: int
    first_tick: int
    started: int
    """ms UTC of the first tick."""
    last_tick: int

    def time_of(self, tick: int) -> int:
        """When a tick's events happened, ms UTC."""
        return self.started + (tick - self.first_tick) * TICK_MS

    def tick_at(self, time: int) -> int:
        return self.first_tick + (time - self.started) // TICK_MS


def first_whole_tick(seed: int, tick: int) -> int:
    """Where to go on after a stop: the first tick from `tick` on at which no attack is half done."""
    while cut := [s for s in scenarios(seed, tick, tick) if s.kind.attack and s.first_tick < tick]:
        tick = max(s.last_tick for s in cut) + 1
    return tick


class State(StrEnum):
    """Of one scenario, as the viewer sees it."""

    COMING = "coming"
    UNDER_WAY = "under way"
    FOUND = "found"
    MISSED = "MISSED"
    IGNORED = "ignored"
    """A look-alike that was rightly not reported."""
    FALSE = "FALSE ALARM"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scenario and what became of it."""

    scenario: Scenario
    state: State
    due: int
    """ms UTC: when the event that completes it happens."""
    delay: int | None = None
    """ms from that event to the report."""


@dataclass(slots=True)
class Summary:
    """The count at one moment."""

    found: int = 0
    due: int = 0
    under_way: int = 0
    missed: list[Verdict] = field(default_factory=list)
    look_alikes: int = 0
    others: list[str] = field(default_factory=list)
    """Reports that no attack explains."""

    @property
    def clean(self) -> bool:
        return not self.missed and not self.others

    def __str__(self) -> str:
        text = f"{self.found} of {self.due} found, {len(self.others)} other{'' if len(self.others) == 1 else 's'}"
        return f"{text}, {len(self.missed)} missed" if self.missed else text


class Score:
    """Compares reports with what is known to be hidden; from any thread.

    Args:
        earlier: the runs before this one: what they left unfinished may be reported now.
        run: this one; `last_tick` grows with `advance`.
    """

    def __init__(self, run: Run, earlier: Sequence[Run] = ()) -> None:
        self.run = run
        self._earlier = list(earlier)
        self._lock = threading.Lock()
        self._reports: dict[tuple[Kind, str], tuple[int, int]] = {}

    def begin(self, now: int) -> Run:
        """The generator starts now (ms UTC)."""
        self.run = replace(self.run, started=now)
        return self.run

    def advance(self, tick: int) -> None:
        """The generator has come to this tick."""
        self.run = replace(self.run, last_tick=tick)

    def report(self, kind: Kind, key: str, event_time: int, now: int) -> bool:
        """A pattern or rule reported `key`; true when it is the first report of it.

        Args:
            event_time: of the event that completed it, ms UTC.
            now: when the report came, ms UTC.
        """
        with self._lock:
            if (kind, key) in self._reports:
                return False
            self._reports[kind, key] = (event_time, now)
            return True

    def verdicts(self, watermark: int, ahead: int = 0) -> list[Verdict]:
        """This run's scenarios that began, or begin within `ahead` ticks, in order of their start.

        Args:
            watermark: up to which event time the job has come, ms UTC: an attack that ended before it and was not
                reported is missed.
        """
        run = self.run
        return [
            self._judge(each, watermark)
            for each in scenarios(run.seed, run.first_tick, run.last_tick + ahead)
            if each.first_tick >= run.first_tick
        ]

    def _judge(self, scenario: Scenario, watermark: int) -> Verdict:
        due = self.run.time_of(scenario.detectable_tick)
        report = self._report_of(scenario)
        if report is not None:
            state = State.FOUND if scenario.kind.attack else State.FALSE
            return Verdict(scenario, state, due, max(0, report[1] - due))
        if scenario.first_tick > self.run.last_tick:
            state = State.COMING
        elif scenario.last_tick > self.run.last_tick or watermark <= self.run.time_of(scenario.last_tick):
            state = State.UNDER_WAY
        else:
            state = State.MISSED if scenario.kind.attack else State.IGNORED
        return Verdict(scenario, state, due)

    def _report_of(self, scenario: Scenario) -> tuple[int, int] | None:
        kinds = [scenario.kind] if scenario.kind.attack else list(Kind)
        return next(
            (self._reports[kind, scenario.key] for kind in kinds if (kind, scenario.key) in self._reports), None
        )

    def summary(self, watermark: int) -> Summary:
        verdicts = self.verdicts(watermark)
        summary = Summary(others=[f"{kind} {key}" for kind, key in self._unexplained()])
        for verdict in verdicts:
            if not verdict.scenario.kind.attack:
                summary.look_alikes += verdict.state is State.IGNORED
            elif verdict.state is State.FOUND:
                summary.found += 1
            elif verdict.state is State.MISSED:
                summary.missed.append(verdict)
            else:
                summary.under_way += 1
        summary.due = summary.found + len(summary.missed)
        return summary

    def _unexplained(self) -> list[tuple[Kind, str]]:
        """Reports of this run that belong to no attack of any run."""
        known = {(s.kind, s.key) for run in (*self._earlier, self.run) for s in _attacks(run)}
        with self._lock:
            return [report for report in self._reports if report not in known]


def _attacks(run: Run) -> Iterable[Scenario]:
    return (s for s in scenarios(run.seed, run.first_tick, run.last_tick) if s.kind.attack)
