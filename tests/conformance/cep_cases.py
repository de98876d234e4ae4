"""Pattern cases through the public API and the test driver.

The reference takes events in the order of the feed. Where timestamps go back on the way and time plays no part (no
window), events are given their position as their time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from tests.conformance.shapes import PatternCase, known
from tests.conformance.trial import Fault, Trial
from thalweg.cep import AfterMatch, PartialMatch, Pattern, PatternBuilder
from thalweg.cep.pattern import Skip
from thalweg.streams import App

Case = dict[str, Any]
col = pl.col

SCHEMA = {"ts": int, "id": int, "name": str, "price": float, "volume": float, "type": str, "position": int}


def run_cep_case(case: Case, batch_size: int | None, *, fault: Fault = None) -> list[dict[str, list[int]]]:
    """The matches of a case: step label → positions of events.

    Args:
        fault: what happens within the events.

    Raises:
        OperatorFailed: the pattern's skip strategy has nowhere to skip to.
    """
    return labels(drive(case, batch_size, fault=fault).matches)


@dataclass
class Outcome:
    """What came out of a case."""

    matches: pl.DataFrame
    timed_out: pl.DataFrame
    """Empty where they were not asked for."""
    open: int
    """Partial matches that are still alive."""


def drive(case: Case, batch_size: int | None, *, timeouts: bool = False, fault: Fault = None) -> Outcome:
    """Runs a case.

    Args:
        timeouts: asks for timed-out partial matches too; then the general engine runs every pattern.
        fault: what happens within the events.
    """
    known(case, PatternCase)
    events, pattern = case_events(case), case_pattern(case["pattern"])
    matches = App("case").stream("events", schema=SCHEMA, timestamp="ts", watermark=0).detect(pattern)
    watched = [matches, matches.port("timeout")] if timeouts else [matches]
    trial = Trial(*watched, batch_size=batch_size, fault=fault)
    trial.send(events)
    last = max((event["ts"] for event in events), default=0)
    trial.driver.advance_watermark(max(last + 1, case.get("advance_to_ms", 0)))
    found = [trial.output(stream, reserved=True) for stream in watched]
    detect: list[Any] = [s.operator for s in trial.driver.workers.stages if s.operator.id == "detect-1"]
    return Outcome(found[0], found[1] if timeouts else pl.DataFrame(), sum(one.engine.alive for one in detect))


def case_events(case: Case) -> list[dict[str, Any]]:
    """The events with their positions."""
    events = [{**event, "position": position} for position, event in enumerate(case["events"])]
    times = [event["ts"] for event in events]
    if times != sorted(times) and case["pattern"]["within_ms"] is None:
        return [{**event, "ts": event["position"]} for event in events]
    return events


def labels(found: pl.DataFrame) -> list[dict[str, list[int]]]:
    """Matches as step → positions; steps without events are left out."""
    matches = found.get_column("events").to_list() if found.height else []
    return [
        {step: [event["position"] for event in events] for step, events in match.items() if events} for match in matches
    ]


def case_pattern(described: Case) -> Pattern:
    """The pattern of a case."""
    builder = _steps(PatternBuilder.create("case"), described["steps"])
    if described["within_ms"] is not None:
        builder.within(described["within_ms"])
    return builder.skip(_after_match(described["skip"])).build()


def _after_match(skip: Case) -> AfterMatch:
    strategy = Skip(skip["strategy"])
    return AfterMatch(strategy, skip.get("to"), skip.get("throw_if_missing", False))


def _steps(builder: PatternBuilder, steps: list[Case]) -> PatternBuilder:
    for step in steps:
        group = step.get("group")
        what: Any = _steps(PatternBuilder.create("group"), group["steps"]) if group else step["name"]
        condition = None if group else _condition(step.get("condition"))
        if condition is None and step["contiguity"].startswith("not_"):
            condition = pl.lit(True)
        how = "followed_by" if step["contiguity"] == "begin" else step["contiguity"]
        getattr(builder, how)(what, condition)
        _quantify(builder, step)
    return builder


def _quantify(builder: PatternBuilder, step: Case) -> None:
    minimum, maximum = step["quantifier"]["min"], step["quantifier"]["max"]
    if maximum is None:
        builder.times_or_more(minimum)
    elif maximum > 1:
        builder.times(minimum, maximum)
    if step["optional"]:
        builder.optional()
    if step["greedy"] and (step["optional"] or minimum != maximum):  # otherwise it says nothing
        builder.greedy()
    if step["inner"] != "relaxed" and maximum != 1:
        {"strict": builder.consecutive, "any": builder.allow_combinations}[step["inner"]]()
    if step.get("until") is not None:
        until = _condition(step["until"])
        builder.until(pl.lit(True) if until is None else until)


def _condition(condition: Case | None) -> Any:
    """An expression; or, where any part is iterative, a function of the event and the partial match."""
    if condition is None or condition.get("true"):
        return None
    return _iterative(condition) if _has_iterative(condition) else _expression(condition)


def _has_iterative(condition: Case) -> bool:
    parts = [*condition.get("all", ()), *condition.get("any", ()), *([condition["not"]] if "not" in condition else [])]
    return "iterative" in condition or any(_has_iterative(part) for part in parts)


def _expression(condition: Case) -> pl.Expr:
    if "all" in condition:
        return pl.all_horizontal(_expression(part) for part in condition["all"])
    if "any" in condition:
        return pl.any_horizontal(_expression(part) for part in condition["any"])
    if "not" in condition:
        return ~_expression(condition["not"]).fill_null(False)
    if "subtype" in condition:
        return col("type") == condition["subtype"]
    if condition.get("true"):
        return pl.lit(True)
    field, value = col(condition["field"]), condition["value"]
    return {
        "==": lambda: field == value,
        "!=": lambda: field != value,
        "<": lambda: field < value,
        "<=": lambda: field <= value,
        ">": lambda: field > value,
        ">=": lambda: field >= value,
        "startswith": lambda: field.str.starts_with(value),
        "endswith": lambda: field.str.ends_with(value),
        "contains": lambda: field.str.contains(value, literal=True),
    }[condition["op"]]()


_PLAIN: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "startswith": lambda a, b: a.startswith(b),
    "endswith": lambda a, b: a.endswith(b),
    "contains": lambda a, b: b in a,
}


def _iterative(condition: Case) -> Callable[[Any, PartialMatch], bool]:
    if "all" in condition:
        parts = [_iterative(part) for part in condition["all"]]
        return lambda e, m: all(part(e, m) for part in parts)
    if "any" in condition:
        parts = [_iterative(part) for part in condition["any"]]
        return lambda e, m: any(part(e, m) for part in parts)
    if "not" in condition:
        part = _iterative(condition["not"])
        return lambda e, m: not part(e, m)
    if "subtype" in condition:
        return lambda e, m: e.type == condition["subtype"]
    if condition.get("true"):
        return lambda e, m: True
    if "field" in condition:
        test, field, value = _PLAIN[condition["op"]], condition["field"], condition["value"]
        return lambda e, m: e[field] is not None and test(e[field], value)
    code = compile(condition["iterative"], "condition", "eval")

    def of_match(e: Any, m: PartialMatch) -> bool:
        names = {"sum_of": m.sum, "count_of": m.count, "first_of": lambda step, field: m.first(step)[field]}
        return bool(eval(code, {}, {**e, **names}))

    return of_match
