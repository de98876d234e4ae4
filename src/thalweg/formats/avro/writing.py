"""An Avro schema and a frame's Arrow arrays, as the steps that write one row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.avro.leaves import describe
from thalweg.formats.avro.schema import (
    Array,
    AvroType,
    Enumeration,
    Fixed,
    Map,
    Primitive,
    Record,
    Reference,
    Union,
)
from thalweg.formats.avro.types import KEY, VALUE, branch_names, column_type, is_null
from thalweg.formats.errors import UnwritableError
from thalweg.formats.kernels import write_avro as kernel
from thalweg.records import Int64s


@dataclass(frozen=True, eq=False, slots=True)
class WritePlan:
    """What the kernel needs; `keep` holds the arrays that its steps point to."""

    steps: Int64s
    tables: Int64s
    paths: tuple[str, ...]
    keep: tuple[object, ...]


def plan_for(schema: AvroType, frame: pl.DataFrame) -> WritePlan:
    """The steps for one frame.

    Raises:
        ConfigurationError: a column that can't be written as the schema says.
    """
    planner = _Planner()
    parts = [(f.name, f.type) for f in schema.fields] if isinstance(schema, Record) else [(VALUE, schema)]
    for name, node in parts:
        planner.column(name, node, frame)
    steps = np.array(planner.steps, np.int64).reshape(len(planner.steps), kernel.STEP_FIELDS)
    return WritePlan(steps, np.array(planner.tables or [0], np.int64), tuple(planner.paths), tuple(planner.keep))


@dataclass
class _Planner:
    steps: list[list[int]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    keep: list[object] = field(default_factory=list)

    def column(self, name: str, node: AvroType, frame: pl.DataFrame) -> None:
        wanted = written_type(node, name)
        if name in frame.columns:
            series = _shaped(frame[name], node, wanted, name)
        elif _takes_null(node):
            series = pl.Series(name, [None], dtype=wanted).new_from_index(0, frame.height)
        else:
            raise ConfigurationError(
                f"the Avro schema has a field {name!r}, which takes no null, and the frame has none"
            )
        array = series.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        self.keep.append(array)
        self._value(node, array, 0, name)

    def _step(self, op: int, path: str, **fields: int) -> int:
        row = [op, 0, 0, 0, -1, 0, 0, 0, 0]
        for name, value in fields.items():
            row[_PLACES[name]] = value
        self.steps.append(row)
        self.paths.append(path)
        return len(self.steps) - 1

    def _value(self, node: AvroType, array: Any, level: int, path: str, null: int = -1) -> None:
        if isinstance(node, Union):
            self._union(node, array, level, path)
            return
        if is_null(node):
            self._step(kernel.NULL, path, null=null, level=level)
            return
        common = {"validity": _validity(array), "offset": array.offset, "null": null, "level": level}
        if isinstance(node, Record):
            begin = self._step(kernel.STRUCT, path, **common)
            for number, each in enumerate(node.fields):
                self._value(each.type, self._kept(array.field(number)), level, f"{path}.{each.name}")
            self.steps[begin][kernel.END] = len(self.steps)
        elif isinstance(node, Array | Map):
            if level + 2 > kernel.MAX_LEVELS:
                raise ConfigurationError(f"field {path!r}: too many lists within each other")
            begin = self._step(kernel.LIST, path, data=array.buffers()[1].address, **common)
            items = self._kept(array.values)
            if isinstance(node, Array):
                self._value(node.items, items, level + 1, f"{path}[]")
            else:
                self._value(Primitive("string"), self._kept(items.field(0)), level + 1, f"{path}{{key}}")
                self._value(node.values, self._kept(items.field(1)), level + 1, f"{path}{{}}")
            self._step(kernel.ITEM, path, level=level, a=begin + 1)
            self.steps[begin][kernel.END] = len(self.steps)
        else:
            self._leaf(node, array, path, common)

    def _union(self, node: Union, array: Any, level: int, path: str) -> None:
        null = next((number for number, branch in enumerate(node.branches) if is_null(branch)), -1)
        others = [(number, branch) for number, branch in enumerate(node.branches) if not is_null(branch)]
        if len(others) == 1 and null >= 0:
            self._value(others[0][1], array, level, path, null)
            return
        if not others:
            self._step(kernel.NULL, path, null=null, level=level)
            return
        fields = [array] if len(others) == 1 else [self._kept(array.field(n)) for n in range(len(others))]
        start = len(self.tables)
        self.tables += [0] * kernel.CHOICE_FIELDS * len(others)
        place = {"validity": _validity(array), "offset": array.offset, "level": level}
        choice = self._step(kernel.CHOICE, path, null=null, a=start, b=len(others), **place)
        jumps = []
        for at, ((number, branch), part) in enumerate(zip(others, fields, strict=True)):
            entry = start + at * kernel.CHOICE_FIELDS
            self.tables[entry : entry + kernel.CHOICE_FIELDS] = [number, _validity(part), part.offset, len(self.steps)]
            self._value(branch, part, level, path)
            jumps.append(self._step(kernel.JUMP, path))
        for jump in jumps:
            self.steps[jump][kernel.A] = len(self.steps)
        self.steps[choice][kernel.END] = len(self.steps)

    def _leaf(self, node: AvroType, array: Any, path: str, common: dict[str, int]) -> None:
        buffers = array.buffers()
        data = buffers[1].address if buffers[1] is not None else 0
        size = node.size if isinstance(node, Fixed) else -1
        dtype = column_type(node)
        if isinstance(dtype, pl.Decimal):
            self._step(kernel.DECIMAL, path, data=data, a=size, **common)
        elif isinstance(node, Fixed) or (isinstance(node, Primitive) and node.kind in ("string", "bytes")):
            table = np.array([0 if b is None else b.address for b in buffers[2:]] or [0], np.int64)
            self.keep.append(table)
            op = kernel.FIXED if isinstance(node, Fixed) else kernel.BYTES
            self._step(op, path, data=data, a=table.ctypes.data, b=size, **common)
        else:
            kind = "long" if isinstance(node, Enumeration) else getattr(node, "kind", "")
            self._step(_OPS[kind], path, data=data, **common)

    def _kept(self, array: Any) -> Any:
        self.keep.append(array)
        return array


_PLACES = {
    "data": kernel.DATA,
    "validity": kernel.VALIDITY,
    "offset": kernel.OFFSET,
    "null": kernel.NULL_BRANCH,
    "level": kernel.LEVEL,
    "a": kernel.A,
    "b": kernel.B,
}
_OPS = {
    "int": kernel.LONG,
    "long": kernel.LONG,
    "float": kernel.FLOAT,
    "double": kernel.DOUBLE,
    "boolean": kernel.BOOLEAN,
}


def _validity(array: Any) -> int:
    buffer = array.buffers()[0]
    return buffer.address if buffer is not None and array.null_count else 0


def _takes_null(node: AvroType) -> bool:
    return is_null(node) or (isinstance(node, Union) and any(is_null(branch) for branch in node.branches))


def written_type(node: AvroType, path: str) -> pl.DataType:
    """The type that the kernel reads a value of an Avro type from: integers and times as Int64, an enum as the number
    of its symbol.

    Raises:
        ConfigurationError: a record within itself.
    """
    if isinstance(node, Reference):
        raise ConfigurationError(f"field {path!r}: the record {node.name} is within itself, which a column can't be")
    if isinstance(node, Record):
        if not node.fields:
            raise ConfigurationError(f"field {path!r}: the record {node.name} has no fields, which a column can't be")
        return pl.Struct({f.name: written_type(f.type, f"{path}.{f.name}") for f in node.fields})
    if isinstance(node, Array):
        return pl.List(written_type(node.items, f"{path}[]"))
    if isinstance(node, Map):
        return pl.List(pl.Struct({KEY: pl.String(), VALUE: written_type(node.values, f"{path}{{}}")}))
    if isinstance(node, Union):
        others = [branch for branch in node.branches if not is_null(branch)]
        types = [written_type(branch, path) for branch in others]
        if len(types) < 2:
            return types[0] if types else pl.Null()
        return pl.Struct(dict(zip(branch_names(others), types, strict=True)))
    if isinstance(node, Enumeration):
        return pl.Int64()
    dtype = column_type(node)
    if isinstance(node, Fixed):
        return dtype if isinstance(dtype, pl.Decimal) else pl.Binary()
    return pl.Int64() if node.kind in ("int", "long") else dtype


def _shaped(series: pl.Series, node: AvroType, wanted: pl.DataType, path: str) -> pl.Series:
    """The column in the type that the kernel reads.

    Raises:
        ConfigurationError: a value that the Avro type can't hold.
    """
    if series.dtype == wanted and wanted in (pl.Float64, pl.String, pl.Boolean, pl.Binary):
        return series  # what most columns are
    try:
        return series.to_frame().select(_expression(pl.col(series.name), series.dtype, node).alias(path)).to_series()
    except pl.exceptions.PolarsError as error:
        never = series.dtype.is_nested() != wanted.is_nested()
        raise (ConfigurationError if never else UnwritableError)(
            f"column {path!r} of type {series.dtype} can't be written as Avro {describe(node)}: {error}"
        ) from error


def _expression(value: pl.Expr, given: Any, node: AvroType) -> pl.Expr:
    """`value`, of the type `given`, as `written_type(node)`."""
    if isinstance(node, Union):
        others = [branch for branch in node.branches if not is_null(branch)]
        if len(others) < 2:
            return _expression(value, given, others[0]) if others else value
        return _struct(value, given, list(zip(branch_names(others), others, strict=True)))
    if isinstance(node, Record):
        return _struct(value, given, [(f.name, f.type) for f in node.fields])
    if isinstance(node, Array):
        inner = getattr(given, "inner", pl.Null())
        return value.cast(pl.List(inner)).list.eval(_expression(pl.element(), inner, node.items))
    if isinstance(node, Map):
        inner = getattr(given, "inner", pl.Null())
        return value.list.eval(_struct(pl.element(), inner, [(KEY, Primitive("string")), (VALUE, node.values)]))
    if isinstance(node, Enumeration):
        return value.cast(pl.String).cast(pl.Enum(list(node.symbols))).to_physical().cast(pl.Int64)
    dtype = column_type(node)
    if isinstance(node, Fixed):
        is_text_uuid = dtype == pl.String and given == pl.String
        return (
            value.str.replace_all("-", "", literal=True).str.decode("hex")
            if is_text_uuid
            else value.cast(dtype if isinstance(dtype, pl.Decimal) else pl.Binary)
        )
    if isinstance(node, Primitive) and node.kind in ("int", "long"):
        return _integer(value, node, dtype)
    return value.cast(dtype)


def _integer(value: pl.Expr, node: Primitive, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Time):
        per = 1_000_000 if node.logical is not None and node.logical.name == "time-millis" else 1_000
        return value.cast(dtype).to_physical() // per
    if isinstance(dtype, pl.Datetime | pl.Date):
        return value.cast(dtype).to_physical().cast(pl.Int64)
    return value.cast(dtype).cast(pl.Int64)


def _struct(value: pl.Expr, given: Any, parts: list[tuple[str, AvroType]]) -> pl.Expr:
    """A struct's fields in the schema's order; one that it lacks is null."""
    known = {f.name: f.dtype for f in given.fields} if isinstance(given, pl.Struct) else {}
    fields = [
        _expression(value.struct.field(name), known[name], node).alias(name)
        if name in known
        else pl.lit(None, written_type(node, name)).alias(name)
        for name, node in parts
    ]
    return pl.when(value.is_not_null()).then(pl.struct(fields))
