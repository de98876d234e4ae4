"""What `AlertManager` does with events: from a frame, an event or another system's alert to alerts that are stored."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from thalweg.alerts.alert import Alert
from thalweg.alerts.deciding import Decider, Found
from thalweg.alerts.evaluate import RuleSet, check_types, fields_of
from thalweg.alerts.external import External
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.states import Followed, StateTracker
from thalweg.alerts.store import Changes, Store
from thalweg.errors import ThalwegError
from thalweg.streams.batch import RESERVED, TIMESTAMP

_DIRECT = "states:direct"
"""Where the states of events that were given directly are kept."""


class Processing(ABC):
    """The part of `AlertManager` that takes events."""

    store: Store
    _clock: Callable[[], int]
    _decider: Decider
    _lock: threading.RLock
    _rules: dict[str, AlertRule]
    _sets: dict[Any, RuleSet]
    _read: dict[str, frozenset[str]]
    _fitting: dict[Any, tuple[Sequence[str], Exception | None]]
    _tracker: StateTracker | None

    @abstractmethod
    def start(self) -> None:
        """Checks the set-up and starts delivery."""

    @abstractmethod
    def start_delivery(self) -> None:
        """Starts delivery."""

    @abstractmethod
    def _on_change(self) -> None: ...

    async def process_event(
        self, event: Mapping[str, Any], *, timestamp: int | None = None, origin: str | None = None
    ) -> list[Alert]:
        """Evaluates the rules on one event; returns its alerts, suppressed ones too.

        A rule that reads a field which the event does not have is not about it.

        Args:
            timestamp: event time, ms UTC; none: now.
            origin: what tells this event from another equal one; with it, processing it again changes nothing.

        Raises:
            Exception: a rule can't be evaluated on it (a text where it compares numbers, say): the first such, when
                what the other rules found is stored.
        """
        when = self._clock() if timestamp is None else timestamp
        frame = pl.DataFrame([dict(event)], infer_schema_length=None)
        frame = frame.with_columns(pl.lit(when, pl.Int64).alias(TIMESTAMP))
        with self._lock:
            tracker = self._direct()
            fitting, misfit = self._about(frame)
            alerts, failed = self.process_frame(frame, origin=origin, tracker=tracker, only=fitting)
            self._keep_direct(tracker)
        if misfit is not None:
            raise misfit
        if failed:
            raise next(iter(failed.values()))
        return [alert for _, alert in alerts]

    def process_frame(
        self,
        frame: pl.DataFrame,
        *,
        keys: Sequence[str] = (),
        source: str = "",
        origin: str | None = None,
        tracker: StateTracker | None = None,
        only: Iterable[str] | None = None,
    ) -> tuple[Found, dict[int, Exception]]:
        """Evaluates all rules over a frame with event times in `__ts`.

        Args:
            keys: the columns that fingerprints are made of where a rule does not say.
            source: names the stream, for the ids of alerts.
            tracker: the states of this source; none: those of events given directly.
            only: ids of the rules to evaluate; none: all of them.

        Returns:
            (row, alert) for each match, as it was first decided where it is stored already (a replay gives the same
            rows again, but stores and tells nothing); for rules that watch a state, its beginning and its end (row -1
            where time brought it about); and the rows on which a condition raised.
        """
        self.start()
        with self._lock:
            rules = self._rule_set(frame, only)
            own = tracker is None and bool(rules.watching)
            states = self._direct() if own else tracker if tracker is not None else StateTracker()
            verdicts = rules.verdicts(frame)
            found = self._decider.events(frame, rules.hits(verdicts), keys, source, origin)
            found += self._decider.changed(states.follow(frame, rules, verdicts, keys))
            if own:
                self._keep_direct(states)
        if found:
            self._on_change()
        return found, verdicts.failed

    def process_time(self, now: int, tracker: StateTracker) -> Found:
        """What the passing of time (event time, ms) brings about in the states of a source."""
        with self._lock:
            found = self._decider.changed(tracker.on_time(now, self._rules))
        if found:
            self._on_change()
        return found

    def receive(self, found: Sequence[External]) -> Sequence[Alert]:
        """Takes alerts that another system found (see `thalweg.alerts.external`): they are routed, silenced, escalated
        and told as our own."""
        self.start_delivery()
        with self._lock:
            alerts = self._decider.external(found)
        self._on_change()
        return alerts

    def tick(self) -> Found:
        """What the passing of time brings about in the states of events that were given directly, by the clock."""
        with self._lock:
            tracker = self._direct()
            found = self.process_time(self._clock(), tracker)
            self._keep_direct(tracker)
        return found

    def rules_about(self, event: Mapping[str, Any]) -> list[str]:
        """The ids of the enabled rules that read no field which an event does not have."""
        return [rule.id for rule in self._rules.values() if rule.enabled and self._fields(rule) <= event.keys()]

    def _fields(self, rule: AlertRule) -> frozenset[str]:
        if rule.id not in self._read:
            self._read[rule.id] = fields_of(rule)
        return self._read[rule.id]

    def _about(self, frame: pl.DataFrame) -> tuple[Sequence[str], Exception | None]:
        """The rules that can be evaluated on a frame, and why one of those that are about it can't."""
        schema = _own(frame.schema)
        shape = tuple(schema.items())
        if shape not in self._fitting:
            if len(self._fitting) > 100:
                self._fitting.clear()
            fitting, misfit = list[str](), None
            for id in self.rules_about(schema):
                try:
                    check_types(self._rules[id], schema)
                except (ThalwegError, pl.exceptions.PolarsError) as error:
                    misfit = misfit or error
                else:
                    fitting.append(id)
            self._fitting[shape] = fitting, misfit
        return self._fitting[shape]

    def _rule_set(self, frame: pl.DataFrame, only: Iterable[str] | None) -> RuleSet:
        schema = _own(frame.schema)
        shape = (tuple(schema.items()), None if only is None else frozenset(only))
        if shape not in self._sets:
            if len(self._sets) > 100:  # events whose fields change all the time
                self._sets.clear()
            self._sets[shape] = RuleSet(self.chosen(only), schema)
        return self._sets[shape]

    def chosen(self, only: Iterable[str] | None) -> list[AlertRule]:
        """The rules of these ids; none: all of them."""
        return [rule for rule in self._rules.values() if only is None or rule.id in only]

    def _direct(self) -> StateTracker:
        if self._tracker is None:
            self._tracker = StateTracker()
            saved = self.store.documents(_DIRECT).values()
            self._tracker.restore([msgspec.json.decode(body, type=Followed) for body in saved], self._rules)
        return self._tracker

    def _keep_direct(self, tracker: StateTracker) -> None:
        changed, gone = tracker.changed()
        documents: dict[str, bytes | None] = {f"{_DIRECT}:{rule}:{fingerprint}": None for rule, fingerprint in gone}
        for state in changed:
            documents[f"{_DIRECT}:{state.rule}:{state.fingerprint}"] = msgspec.json.encode(state, enc_hook=str)
        if documents:
            self.store.apply(Changes(documents=documents))


def _own(schema: pl.Schema) -> pl.Schema:
    """The events' own columns."""
    return pl.Schema({name: dtype for name, dtype in schema.items() if name not in RESERVED})
