"""The lists of a match's events: one way for matches with one event a step, another for all others; the same lists."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from thalweg.cep import Pattern, PatternBuilder
from thalweg.cep.found import MatchTable
from thalweg.cep.sequence.matches import MatchSchemas, _Steps

COLUMNS = {
    "text": pl.Series(["a", None, "a text of more than twelve bytes"] * 4),
    "number": pl.Series([1, None, -3] * 4, dtype=pl.Int8),
    "float": pl.Series([1.5, float("nan"), None] * 4),
    "flag": pl.Series([True, False, None] * 4),
    "bytes": pl.Series([b"x", None, b""] * 4),
    "when": pl.Series([datetime(2024, 1, 1, 12), None, datetime(1969, 5, 5)] * 4).dt.replace_time_zone("Europe/Berlin"),
    "day": pl.Series([date(2024, 1, 1), None, date(1969, 5, 5)] * 4),
    "span": pl.Series([timedelta(hours=1), None, timedelta(days=-1)] * 4),
    "money": pl.Series([Decimal("1.50"), None, Decimal("-2.00")] * 4, dtype=pl.Decimal(10, 2)),
    "category": pl.Series(["red", None, "blue"] * 4, dtype=pl.Categorical),
    "enum": pl.Series(["red", None, "blue"] * 4, dtype=pl.Enum(["red", "blue"])),
    "list": pl.Series([[1, 2], None, []] * 4),
    "struct": pl.Series([{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None] * 4),
}


def pattern() -> Pattern:
    builder = PatternBuilder.create("abc").where("a", pl.col("k") == 1).followed_by("b", pl.col("k") == 2)
    return builder.followed_by("c", pl.col("k") == 3).build()


@pytest.mark.parametrize("name", [*COLUMNS, "all"])
def test_both_ways_give_the_same(name: str) -> None:
    columns = COLUMNS if name == "all" else {name: COLUMNS[name]}
    events = pl.DataFrame({"k": np.arange(12) // 4 + 1, **columns, "__ts": np.arange(12)})
    schemas = MatchSchemas([pattern()], [])
    wanted = schemas.of(events.schema)["events"]
    each = np.arange(4, dtype=np.int64)
    table = MatchTable(np.full(4, 3), each, each, np.tile(np.arange(3), 4), np.arange(12).reshape(3, 4).T.ravel())
    steps = _Steps([pattern()], np.zeros(4, np.uint32), table, schemas)
    assert table.ids[steps.order].tolist() == list(range(12))
    values = events.drop("__ts").to_struct("events")
    singles, slices = steps._singles(values), steps._slices(values)
    assert singles.dtype == slices.dtype == wanted
    assert singles.equals(slices, null_equal=True)
    assert steps.lists(events).equals(singles, null_equal=True)
    assert singles.struct.field("b").list.get(0).struct.field("k").to_list() == [2] * 4
