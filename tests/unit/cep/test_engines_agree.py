"""The kernel and the engine in Python give the same: matches, timeouts, what stays open, also across a restart."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from tests.conformance.cep_cases import case_events, case_pattern
from tests.flink_cep.random_cases import Draw

from thalweg.cep import Pattern
from thalweg.cep.general.compiled import CompiledPartials
from thalweg.cep.general.partials import GeneralPartials
from thalweg.cep.pattern import asks_match
from thalweg.cep.sequence.conditions import Conditions, with_masks
from thalweg.cep.sequence.engine import Limits, PatternEngine
from thalweg.streams.batch import TIMESTAMP


def engine_of(pattern: Pattern, schema: pl.Schema, *, in_python: bool) -> tuple[PatternEngine, Conditions]:
    conditions = Conditions([pattern], schema)
    engine = PatternEngine([pattern], conditions, ["key"], Limits(timeouts=True))
    assert isinstance(engine.partials[0], CompiledPartials)
    if in_python:
        bits = conditions.of_pattern(pattern)
        engine.partials = [GeneralPartials(pattern, bits.bit_of, engine._event, timeouts=True)]
    return engine, conditions


def outcome(pattern: Pattern, rows: pl.DataFrame, *, in_python: bool, restart: int) -> list[Any]:
    engine, conditions = engine_of(pattern, rows.schema, in_python=in_python)
    told: list[Any] = []

    def tell(piece: pl.DataFrame | None, watermark: int) -> None:
        masked = None if piece is None else with_masks(piece, conditions.masks(piece)[0])
        found = engine.advance(masked, watermark)
        for kind, frame in (("match", found.matches), ("timeout", found.timed_out)):
            for row in () if frame is None else frame.to_dicts():
                events = {step: [e["position"] for e in taken] for step, taken in row["events"].items() if taken}
                told.append((kind, row[TIMESTAMP], row["key"], json.dumps(events)))

    first = rows[:restart]
    if first.height:
        tell(first, first[TIMESTAMP][-1])
        told.append(engine.alive)
        saved = engine.changes(full=True)
        engine, conditions = engine_of(pattern, rows.schema, in_python=in_python)
        engine.restore([saved] if saved is not None else [])
        told.append(engine.alive)
    if restart < rows.height:
        tell(rows[restart:], rows[TIMESTAMP][-1])
    tell(None, 10_000)
    told.append(engine.alive)
    # What one moment brings has no order of its own.
    return sorted(told, key=lambda item: (isinstance(item, int), item))


@pytest.mark.parametrize("block", range(4))
def test_the_kernel_does_what_python_does(block: int):
    compared = 0
    for seed in range(10_000 + 60 * block, 10_060 + 60 * block):
        draw = Draw(seed)
        case = draw.case()
        try:
            pattern = case_pattern(case["pattern"])
        except ValueError:
            continue
        if asks_match(pattern.steps):
            continue
        rows = pl.DataFrame(case_events(case)).with_columns(
            pl.col("ts").alias(TIMESTAMP), pl.Series("key", [draw.dice.choice("xy") for _ in case["events"]])
        )
        restart = draw.dice.randint(0, rows.height)
        kernel = outcome(pattern, rows, in_python=False, restart=restart)
        assert kernel == outcome(pattern, rows, in_python=True, restart=restart), (seed, pattern.describe())
        compared += 1
    assert compared > 30
