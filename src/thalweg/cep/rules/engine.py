"""`RuleEngine`: rules by themselves, or in a stream; changed while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from thalweg.cep.actions import Action, ActionFailure, ActionRunner, Call, Retry
from thalweg.cep.rules.costs import CostSampler
from thalweg.cep.rules.evaluation import Evaluation
from thalweg.cep.rules.files import Watched, read_rules
from thalweg.cep.rules.rule import Rule, takes_rule
from thalweg.cep.rules.ruleset import Hits, RuleSet
from thalweg.cep.rules.stats import RuleStats
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.expressions import iter_rows
from thalweg.streams.plan.functions import close_names

_WEIGHT = 0.2
"""Of the newest measurement in the running mean of a condition's cost."""
Events = Mapping[str, Any] | Iterable[Mapping[str, Any]] | pl.DataFrame


class RuleEngine:
    """Rules with priorities and actions. `stream.apply_rules(engine)` runs them in a job, `evaluate` by themselves.

    Rules may be added, replaced, switched and loaded anew while a job runs: from the next batch on, and only if all of
    them are right. All methods may be called from any thread.

    Args:
        actions: what rules in files call by name.
        retry: how often an action is tried.
        concurrency: how many async actions run at a time.

    >>> rules = RuleEngine()
    >>> rules.add_rule(Rule(id="high", condition="amount > 10000", action=lambda e: print("high", e.amount)))
    >>> rules.evaluate({"amount": 20000}).fired
    high 20000
    ['high']
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        actions: Mapping[str, Action] | None = None,
        retry: Retry | None = None,
        concurrency: int = 100,
    ) -> None:
        self.actions = dict(actions or {})
        self._runner = ActionRunner(retry, concurrency=concurrency)
        self._lock = threading.RLock()
        self._rules: dict[str, Rule] = {}
        self._stats: dict[str, RuleStats] = {}
        self._watched: Watched | None = None
        self._set = RuleSet((), 0)
        self._costs = CostSampler()
        self._schemas: list[pl.Schema] = []
        for rule in rules:
            self.add_rule(rule)

    # -- the rules

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, also those that are not enabled, in the order in which they are tried."""
        return tuple(sorted(self._rules.values(), key=lambda rule: -rule.priority))

    @property
    def version(self) -> int:
        """Counts the changes of the rules."""
        return self._set.version

    @property
    def current(self) -> RuleSet:
        """The enabled rules as they are now; changes make another set."""
        return self._set

    def __len__(self) -> int:
        return len(self._rules)

    def __getitem__(self, id: str) -> Rule:
        if id not in self._rules:
            raise ConfigurationError(f"there is no rule {id!r}{close_names(id, self._rules)}")
        return self._rules[id]

    def add_rule(self, rule: Rule) -> None:
        """Adds a rule; its id must be new."""
        with self._lock:
            if rule.id in self._rules:
                raise ConfigurationError(f"there is a rule {rule.id!r} already; use replace_rule(…)")
            self._install({**self._rules, rule.id: rule})

    def replace_rule(self, rule: Rule) -> None:
        """Puts a rule in the place of the one with its id; its version goes up where it differs."""
        with self._lock:
            old = self[rule.id]
            self._install({**self._rules, rule.id: _newer(old, rule)})

    def remove_rule(self, id: str) -> None:
        """Forgets a rule."""
        with self._lock:
            self._install({name: rule for name, rule in self._rules.items() if name != self[id].id})

    def enable(self, id: str, enabled: bool = True) -> None:
        """Switches a rule on, or off."""
        with self._lock:
            self.replace_rule(replace(self[id], enabled=enabled))

    def load(self, source: str | Path | Iterable[Rule]) -> None:
        """Replaces all rules by those of a YAML file, or by the ones given: all of them, or none if one is wrong.

        Rules that are as they were keep their version; others get the next one.

        Raises:
            ConfigurationError: what is wrong with which rule; the rules stay as they were.
        """
        rules = read_rules(Path(source), self.actions) if isinstance(source, str | Path) else list(source)
        with self._lock:
            new: dict[str, Rule] = {}
            for rule in rules:
                if rule.id in new:
                    raise ConfigurationError(f"there are two rules {rule.id!r}")
                new[rule.id] = _newer(self._rules[rule.id], rule) if rule.id in self._rules else rule
            self._install(new)

    def watch(self, path: str | Path, *, every: Duration = "1s") -> None:
        """Loads a YAML file now, and again whenever it has changed, looked at before a batch at most this often.

        A changed file that is wrong is logged and left alone: the rules stay as they were.
        """
        self.load(path)
        self._watched = Watched(Path(path), milliseconds(every, name="every") / 1000)

    def refresh(self) -> None:
        """Loads the watched file if it is time and it has changed; called before every batch."""
        if self._watched is not None:
            self._watched.refresh(self.load)

    def _install(self, rules: dict[str, Rule]) -> None:
        new = RuleSet(list(rules.values()), self._set.version + 1)
        for schema in self._schemas:
            new.check(schema)
        self._rules = rules
        self._stats = {
            id: replace(self._stats[id], version=rule.version)
            if id in self._stats
            else RuleStats(id, version=rule.version)
            for id, rule in rules.items()
        }
        self._set = new

    def bind(self, schema: pl.Schema) -> None:
        """Says that events have these columns: rules that can't be asked about them are refused, now and later.

        Raises:
            ConfigurationError, PlanError: which rule, and why.
        """
        with self._lock:
            self._set.check(schema)
            if schema not in self._schemas:
                self._schemas.append(schema)

    # -- events

    def evaluate(self, events: Events) -> Evaluation:
        """Asks all rules about an event (or several, or a frame), and calls the actions of those that fire.

        Returns when all actions are done. Inside an event loop use `await evaluate_async(…)`: this would hold it up.
        """
        return self.run(_frame(events))

    async def evaluate_async(self, events: Events) -> Evaluation:
        """`evaluate` on another thread."""
        return await asyncio.to_thread(self.evaluate, events)

    def dry_run(self, events: Events) -> Evaluation:
        """What `evaluate` would give, without calling actions or counting."""
        frame, rules = _frame(events), self._set
        hits = rules.hits(frame)
        return Evaluation(frame, rules.rules, hits.rows, hits.numbers, hits.errors)

    def run(self, frame: pl.DataFrame, keys: Sequence[str] = ()) -> Evaluation:
        """`evaluate` over a frame, whose rows are keyed by `keys`."""
        self.refresh()
        rules = self._set
        started = time.perf_counter_ns()
        hits = rules.hits(frame)
        self._price(rules, frame, hits, time.perf_counter_ns() - started)
        failures = self._act(rules, hits, frame, keys)
        self._count(rules, hits, frame.height, failures)
        return Evaluation(frame, rules.rules, hits.rows, hits.numbers, hits.errors, failures)

    def _price(self, rules: RuleSet, frame: pl.DataFrame, hits: Hits, took: int) -> None:
        """Notes what conditions cost, per event."""
        costs = dict(self._costs.after(rules, frame, took))
        costs |= {number: spent / max(frame.height, 1) for number, spent in hits.spent.items()}
        with self._lock:
            for number, cost in costs.items():
                stats = self._stats.get(rules.rules[number].id)
                if stats is not None:
                    known = stats.condition_ns
                    stats.condition_ns = cost if known is None else known + _WEIGHT * (cost - known)

    def _act(self, rules: RuleSet, hits: Hits, frame: pl.DataFrame, keys: Sequence[str]) -> list[ActionFailure]:
        acting = np.array([bool(rule.actions) for rule in rules.rules], np.bool_)
        chosen = acting[hits.numbers] if len(hits.numbers) else np.zeros(0, np.bool_)
        if not chosen.any():
            return []
        return self._runner.run(list(_calls(rules, hits.rows[chosen], hits.numbers[chosen], frame, keys)))

    def _count(self, rules: RuleSet, hits: Hits, events: int, failures: Sequence[ActionFailure]) -> None:
        fired = np.bincount(hits.numbers, minlength=len(rules.rules))
        with self._lock:
            for number, rule in enumerate(rules.rules):
                stats = self._stats.get(rule.id)
                if stats is None:
                    continue
                stats.evaluated += events
                stats.matched += int(hits.matched[number])
                stats.fired += int(fired[number])
                stats.actions += int(fired[number]) * len(rule.actions)
            for failure in failures:
                if failure.owner in self._stats:
                    self._stats[failure.owner].failures += 1
                    self._stats[failure.owner].actions -= 1
            for error in hits.errors:
                if error.rule in self._stats:
                    self._stats[error.rule].errors += 1

    # -- figures

    def stats(self) -> list[RuleStats]:
        """The counters of all rules, in the order in which they are tried."""
        with self._lock:
            return [replace(self._stats[rule.id]) for rule in self.rules]

    def profile(self, events: Events, *, repeat: int = 3) -> list[RuleStats]:
        """Measures what each condition costs by itself, on these events: the best of `repeat` runs."""
        frame = _frame(events)
        for rule in self._set.rules:
            alone = RuleSet([rule], 0)
            alone.compiled(frame)
            best = min(_timed(alone, frame) for _ in range(repeat))
            with self._lock:
                self._stats[rule.id].condition_ns = best / max(frame.height, 1)
        return self.stats()

    def close(self) -> None:
        """Ends the thread of async actions."""
        self._runner.close()

    # -- streams

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> Any:
        """The plan node of `stream.apply_rules(engine)`."""
        from thalweg.cep.rules.node import RulesNode

        return RulesNode(self, key_columns, inputs=(upstream,))


def _newer(old: Rule, new: Rule) -> Rule:
    return old if new.same_as(old) else replace(new, version=old.version + 1)


def _frame(events: Events) -> pl.DataFrame:
    if isinstance(events, pl.DataFrame):
        return events
    rows = [dict(events)] if isinstance(events, Mapping) else [dict(event) for event in events]
    return pl.DataFrame(rows, infer_schema_length=None)


def _calls(rules: RuleSet, rows: Any, numbers: Any, frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[Call]:
    places, inverse = np.unique(rows, return_inverse=True)
    events = list(iter_rows(frame[places], keys))
    for row, place, number in zip(rows.tolist(), inverse.tolist(), numbers.tolist(), strict=True):
        rule = rules.rules[number]
        for action in rule.actions:
            arguments = (events[place], rule) if takes_rule(action) else (events[place],)
            yield Call(action, arguments, rule.id, row)


def _timed(rules: RuleSet, frame: pl.DataFrame) -> int:
    started = time.perf_counter_ns()
    rules.hits(frame)
    return time.perf_counter_ns() - started
