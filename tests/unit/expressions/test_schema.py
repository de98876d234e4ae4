"""Schemas from classes and mappings."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec
import polars as pl
import pytest

from thalweg.errors import ConfigurationError
from thalweg.schema import to_schema


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Address:
    city: str
    zip: int | None = None


@dataclass
class Order:
    id: int
    at: datetime
    price: Decimal
    level: Level
    state: Literal["open", "closed"]
    address: Address
    tags: list[str] = field(default_factory=list)
    note: str | None = None


def test_a_dataclass():
    found = to_schema(Order)
    assert found.schema == pl.Schema(
        {
            "id": pl.Int64,
            "at": pl.Datetime("ms", "UTC"),
            "price": pl.Decimal(38, 9),
            "level": pl.String,
            "state": pl.String,
            "address": pl.Struct({"city": pl.String, "zip": pl.Int64}),
            "tags": pl.List(pl.String),
            "note": pl.String,
        }
    )
    assert found.required == {"id", "at", "price", "level", "state", "address"}


def test_a_msgspec_struct_with_renamed_fields():
    class Event(msgspec.Struct, rename="camel"):
        user_id: str
        is_new: bool = False

    found = to_schema(Event)
    assert list(found.schema) == ["userId", "isNew"]
    assert found.required == {"userId"}


def test_mappings_require_nothing():
    found = to_schema({"a": int, "b": pl.Float32, "c": list[int]})
    assert found.schema == pl.Schema({"a": pl.Int64, "b": pl.Float32, "c": pl.List(pl.Int64)})
    assert not found.required


@pytest.mark.parametrize("bad", [{"a": object}, {"a": int | str}, {"a": list}, 5, "x", {"a": Literal["x", 1]}])
def test_what_has_no_column_type_is_refused(bad):
    with pytest.raises(ConfigurationError):
        to_schema(bad)
