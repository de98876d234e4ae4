"""Random Avro schemas with values: (schema, strategy of values, from fastavro's value to the column's)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from tests.unit.formats.avro_records import record

_counter = iter(range(10**9))


def _name(prefix: str) -> str:
    return f"{prefix}{next(_counter)}"


def _same(value: Any) -> Any:
    return value


def leaf_kinds() -> list[tuple[Any, st.SearchStrategy[Any]]]:
    moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda d: d.replace(tzinfo=UTC))
    enum = {"type": "enum", "name": _name("E"), "symbols": ["A", "a_symbol_that_is_long", "C"]}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 4}
    fixed_decimal = {
        "type": "fixed", "name": _name("D"), "size": 9, "logicalType": "decimal", "precision": 20, "scale": 2,
    }  # fmt: skip
    return [
        ("boolean", st.booleans()),
        ("int", st.integers(-(2**31), 2**31 - 1)),
        ("long", st.integers(-(2**63), 2**63 - 1)),
        ("float", st.floats(width=32, allow_nan=False)),
        ("double", st.floats(allow_nan=False)),
        ("bytes", st.binary(max_size=40)),
        ("string", st.text(max_size=40)),
        (enum, st.sampled_from(enum["symbols"])),
        ({"type": "fixed", "name": _name("F"), "size": 13}, st.binary(min_size=13, max_size=13)),
        ({"type": "int", "logicalType": "date"}, st.dates()),
        ({"type": "long", "logicalType": "timestamp-micros"}, moments),
        ({"type": "long", "logicalType": "time-micros"}, st.times()),
        (decimal, st.decimals(-(10**25), 10**25, places=4, allow_nan=False)),
        (fixed_decimal, st.decimals(-(10**17), 10**17, places=2, allow_nan=False)),
    ]


@st.composite
def typed(draw: st.DrawFn, depth: int = 0) -> tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]:
    """A schema, a strategy of its values, and what the column holds for one of them."""
    kinds = ["leaf", "leaf", "optional"] + (["array", "map", "record", "choice"] if depth < 3 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "leaf":
        schema, values = draw(st.sampled_from(leaf_kinds()))
        return schema, values, _same
    if kind == "choice":
        schema = ["null", "string", "double", {"type": "array", "items": "long"}]
        values = st.none() | st.text() | st.floats(allow_nan=False) | st.lists(st.integers(-9, 9), max_size=3)
        return schema, values, _chosen
    if kind == "record":
        parts = draw(st.lists(typed(depth=depth + 1), min_size=1, max_size=3))
        schema = record(*[(f"f{n}", part[0]) for n, part in enumerate(parts)], name=_name("R"))
        values = st.fixed_dictionaries({f"f{n}": part[1] for n, part in enumerate(parts)})
        return schema, values, lambda v: {f"f{n}": part[2](v[f"f{n}"]) for n, part in enumerate(parts)}
    schema, values, column = draw(typed(depth=depth + 1))
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(values, max_size=3), lambda v: [column(e) for e in v]
    if kind == "map":
        made = {"type": "map", "values": schema}
        keys = st.text(max_size=15)
        return (
            made,
            st.dictionaries(keys, values, max_size=3),
            lambda v: [{"key": k, "value": column(e)} for k, e in v.items()],
        )
    if isinstance(schema, list):
        return schema, values, column
    order = draw(st.booleans())
    optional = ["null", schema] if order else [schema, "null"]
    return optional, st.none() | values, lambda v: None if v is None else column(v)


def _chosen(value: Any) -> Any:
    if value is None:
        return None
    kind = {str: "string", float: "double", list: "array"}[type(value)]
    return {name: value if name == kind else None for name in ("string", "double", "array")}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    parts = draw(st.lists(typed(), min_size=1, max_size=4))
    schema = record(*[(f"c{n}", part[0]) for n, part in enumerate(parts)], name=_name("T"))
    row = st.fixed_dictionaries({f"c{n}": part[1] for n, part in enumerate(parts)})
    rows = draw(st.lists(row, min_size=1, max_size=6))
    columns = [{f"c{n}": part[2](r[f"c{n}"]) for n, part in enumerate(parts)} for r in rows]
    return schema, rows, columns
