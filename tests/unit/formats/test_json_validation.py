"""Records against their JSON Schema by columns: the same ones are refused, with the same words, as by `jsonschema`."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.unit.formats.conftest import raw_records

from thalweg.kafka.schema_registry.json_schema import _problems
from thalweg.kafka.schema_registry.json_validation import Validation

relaxed = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
NAMES = ["a", "b", "c"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**53, -(2**60), 2**70, 0.5, 1.0, -2.0, 1e300])
    | st.sampled_from(["", "a", "ab", "xyz", "null", "é", "a\n", "1.5", "😀😀"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3), min_size=1, max_size=8)
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


def schemas() -> st.SearchStrategy[Any]:
    def grow(inner: Any) -> Any:
        objects = {
            "type": st.just("object"),
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
        }
        lists = {
            "type": st.just("array"), "items": inner, "minItems": st.integers(0, 2), "maxItems": st.integers(0, 3),
            "uniqueItems": st.booleans(),
        }  # fmt: skip
        combined = st.sampled_from(["anyOf", "allOf", "oneOf"]).flatmap(
            lambda name: st.fixed_dictionaries({name: st.lists(inner, min_size=1, max_size=2)})
        )
        nullable = inner.map(lambda each: {"oneOf": [{"type": "null"}, each]})
        return (
            st.fixed_dictionaries({}, optional=objects)
            | st.fixed_dictionaries({}, optional=lists)
            | combined
            | nullable
        )

    numbers = st.integers(-2, 2) | st.sampled_from([0.5, 1.0, 2**53])
    leaf = st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
            "minimum": numbers, "maximum": numbers, "exclusiveMinimum": numbers, "exclusiveMaximum": numbers,
            "multipleOf": st.sampled_from([1, 2, 0.5]), "minLength": st.integers(0, 2), "maxLength": st.integers(0, 3),
            "pattern": st.sampled_from(["^a", "b$", "^[a-z]+$", "\\d", "x|y", "^a.?$", "[^a]", "\\."]),
            "enum": st.lists(SCALARS, min_size=1, max_size=3), "const": SCALARS, "title": st.just("t"),
            "x-own": st.just(1), "format": st.just("date-time"),
        },
    )  # fmt: skip
    return st.recursive(st.booleans() | leaf, grow, max_leaves=6)


ROOTS = st.tuples(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("object"),
            "properties": st.dictionaries(st.sampled_from(NAMES), schemas(), max_size=3),
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "additionalProperties": st.booleans() | schemas(),
            "$schema": st.just("http://json-schema.org/draft-07/schema#"),
        },
    ),
    schemas(),
).map(lambda pair: {**pair[0], "definitions": {"d": pair[1]}})


def opened(schema: Any) -> tuple[Validation, list[Any]]:
    """The validation, and the values that the library was asked about."""
    kind = jsonschema.validators.validator_for(schema)
    problem, asked = _problems(kind(schema)), []

    def looked_at(value: Any) -> str | None:
        asked.append(value)
        return problem(value)

    return Validation(schema, kind.VALIDATORS.keys(), looked_at), asked


@given(ROOTS, RECORDS, RECORDS)
@relaxed
def test_the_same_records_are_refused(schema: Any, first: list[Any], second: list[Any]) -> None:
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError:
        assume(False)
    problem = _problems(kind(schema))
    validation, _ = opened(schema)
    for records in (first, second):  # the columns of the first batch are known to the second
        payloads = [json.dumps(record, ensure_ascii=False).encode() for record in records]
        expected = {row: text for row, record in enumerate(records) if (text := problem(record)) is not None}
        assert validation.invalid(raw_records(payloads)) == expected


ORDER = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["id", "amount"],
    "additionalProperties": False,
    "definitions": {"place": {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}}},
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 20},
        "amount": {"type": "number", "minimum": 0, "exclusiveMaximum": 1000},
        "state": {"enum": ["open", "paid"]},
        "note": {"type": ["string", "null"]},
        "pieces": {"type": "integer", "multipleOf": 2},
        "place": {"$ref": "#/definitions/place"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "lines": {
            "type": "array",
            "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
        },
        "left": {"oneOf": [{"type": "null"}, {"type": "string"}]},
    },
}
GOOD = {"id": "a", "amount": 5, "state": "paid", "note": "n", "pieces": 4, "place": {"zip": "12345"}, "tags": ["x"]}


def test_whole_batches_are_accepted_without_the_library() -> None:
    validation, asked = opened(ORDER)
    records = [
        GOOD,
        {"id": "b", "amount": 0.5},
        {**GOOD, "lines": [{"n": 1}, {"n": 2}]},
        {**GOOD, "left": "x", "tags": []},
    ]
    assert validation.invalid(raw_records([json.dumps(each).encode() for each in records])) == {}
    assert asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": ""}, "$.id"), ({"amount": 1000}, "$.amount"), ({"amount": "1"}, "is not of type 'number'"),
        ({"state": "lost"}, "'lost' is not one of"), ({"note": 1}, "$.note"), ({"pieces": 3}, "multiple of 2"),
        ({"pieces": 4.5}, "$.pieces"), ({"place": {"zip": "1234"}}, "$.place.zip"), ({"tags": ["a"] * 4}, "$.tags"),
        ({"tags": ["a", 1]}, "$.tags[1]"), ({"more": 1}, "'more' was unexpected"), ({"more": None}, "'more'"),
        ({"lines": [{"n": 1}, {}]}, "'n' is a required"), ({"id": None}, "$.id"),
    ],
)  # fmt: skip
def test_one_bad_record_among_good_ones_is_named(change: dict[str, Any], said: str) -> None:
    validation, asked = opened(ORDER)
    records = [GOOD, {**GOOD, **change}, GOOD]
    found = validation.invalid(raw_records([json.dumps(each).encode() for each in records]))
    assert found.keys() == {1}
    assert said in found[1]
    assert len(asked) < 3 or "more" in change


def test_nulls_are_accepted_where_the_schema_says_so() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["null", "integer"]}, "b": {"type": "integer"}}}
    validation, asked = opened(schema)
    records = [{"a": None, "b": 1}, {"a": 1, "b": 2}, {"a": None, "b": None}, {"b": 3}]
    found = validation.invalid(raw_records([json.dumps(each).encode() for each in records]))
    assert found.keys() == {2}
    assert asked == [{"a": None, "b": None}]


def test_the_draft_decides_whether_a_whole_float_is_an_integer() -> None:
    records = raw_records([b'{"a": 1.5}', b'{"a": 1.0}', b'{"a": 2}'])
    for draft, refused in (("04", {0, 1}), ("07", {0})):
        schema = {"$schema": f"http://json-schema.org/draft-{draft}/schema#", "properties": {"a": {"type": "integer"}}}
        assert opened(schema)[0].invalid(records).keys() == refused


def test_a_reference_to_nothing_is_said_of_each_record() -> None:
    validation, _ = opened({"type": "object", "properties": {"a": {"$ref": "#/definitions/none"}}})
    found = validation.invalid(raw_records([b'{"a": 1}', b'{"b": 1}']))
    assert found.keys() == {0}
    assert "refers to what is not there" in found[0]


def test_what_is_no_object_is_looked_at_and_what_is_no_json_is_left_to_the_decoder() -> None:
    validation, _ = opened(ORDER)
    found = validation.invalid(raw_records([b"[1]", b"{", None, b"", json.dumps(GOOD).encode()]))
    assert found.keys() == {0}
