"""How single values are read: the kernel's operation and its three numbers."""

from __future__ import annotations

import polars as pl

from thalweg.formats.avro.schema import Array, AvroType, Fixed, Map, Primitive, Record, Reference, Union, label
from thalweg.formats.kernels import read_avro as kernel

LeafStep = tuple[int, int, int, int]
"""Operation, A, B and C of a step (see `kernels.read_avro`)."""

_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_MILLISECONDS = (_FIRST_DAY * 86_400_000, (_LAST_DAY + 1) * 86_400_000 - 1)
_PER_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_DAY_MS = 86_400_000
_NANOSECONDS = 1_000_000
"""In a millisecond."""

SKIPPED = {
    "boolean": kernel.BOOLEAN,
    "int": kernel.LONG,
    "long": kernel.LONG,
    "float": kernel.FLOAT,
    "double": kernel.DOUBLE,
    "bytes": kernel.BYTES,
    "string": kernel.BYTES,
}
_COPIED = {
    "boolean": kernel.BOOLEAN,
    "float": kernel.FLOAT,
    "double": kernel.DOUBLE,
    "bytes": kernel.BYTES,
    "string": kernel.TEXT,
}


def primitive_step(writer: Primitive, reader: Primitive, dtype: pl.DataType) -> LeafStep:
    if reader.kind in ("int", "long"):
        return _integer(writer, reader, dtype)
    if reader.kind == "float" and writer.kind in ("int", "long"):
        return kernel.LONG_TO_FLOAT, 0, 0, 0
    if reader.kind == "double" and writer.kind in ("int", "long"):
        return kernel.LONG_TO_DOUBLE, 0, 0, 0
    if reader.kind == "double" and writer.kind == "float":
        return kernel.FLOAT_TO_DOUBLE, 0, 0, 0
    return _COPIED[reader.kind], 0, 0, 0


def _integer(writer: Primitive, reader: Primitive, dtype: pl.DataType) -> LeafStep:
    """How an integer is read, with the bounds of what its column can show: years 1 to 9999, one day …

    A time that was written in another unit is converted.
    """
    if isinstance(dtype, pl.Int32):
        return kernel.INT, -(2**31), 2**31 - 1, 0
    if isinstance(dtype, pl.Date):
        return kernel.INT, _FIRST_DAY, _LAST_DAY, 0
    if not isinstance(dtype, pl.Datetime | pl.Time):
        return kernel.LONG, 0, 0, 0
    written = _per_millisecond(writer) or _per_millisecond(reader)
    if isinstance(dtype, pl.Time):
        return kernel.BOUNDED, 0, _DAY_MS * written - 1, _NANOSECONDS // written
    first, last = _MILLISECONDS[0] * written, (_MILLISECONDS[1] + 1) * written - 1
    read = _PER_MILLISECOND[dtype.time_unit]
    # A column of nanoseconds holds fewer years.
    most = (2**63 - 1) // max(1, read // written)
    scale = read // written if read >= written else -(written // read)
    return kernel.BOUNDED, max(first, -most), min(last, most), scale


def _per_millisecond(node: Primitive) -> int:
    """Units of a time in a millisecond; 0 where it is no time."""
    unit = "" if node.logical is None else node.logical.name.rpartition("-")[2]
    return {"millis": 1, "micros": 1_000, "nanos": _NANOSECONDS}.get(unit, 0)


def smallest(node: AvroType) -> int:
    """The fewest bytes that a value may take (a lower bound; a record within itself counts as none)."""
    if isinstance(node, Primitive):
        return {"null": 0, "float": 4, "double": 8}.get(node.kind, 1)
    if isinstance(node, Fixed):
        return node.size
    if isinstance(node, Record):
        return sum(smallest(each.type) for each in node.fields)
    return 0 if isinstance(node, Reference) else 1


def describe(node: AvroType) -> str:
    """A type in a message."""
    logical = getattr(node, "logical", None)
    name = label(node) if isinstance(node, Primitive | Array | Map | Union) else f"{type(node).__name__} {node.name}"
    if logical is None:
        return name
    return f"{name} ({logical.name}{f' {logical.precision}, {logical.scale}' if logical.precision else ''})"
