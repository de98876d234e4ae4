"""Columns to Avro: one record per row, written by a kernel from the frame's own buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from thalweg.formats.avro.schema import AvroType, parse
from thalweg.formats.avro.types import avro_of
from thalweg.formats.avro.writing import plan_for
from thalweg.formats.errors import ErrorClass, UnwritableError
from thalweg.formats.kernels import write_avro as kernel
from thalweg.formats.writable import Encoded, EncodeError, without_empty
from thalweg.records import EncodedRecords

_TYPICAL = 12
"""Bytes that a value is first guessed to take; the buffer grows where that was too little."""
_REASONS = {
    kernel.UNEXPECTED_NULL: "is null, which the Avro schema does not take",
    kernel.WRONG_SIZE: "has not as many bytes as the fixed type of the Avro schema",
    kernel.TOO_LARGE: "does not fit into the bytes of the Avro schema's decimal",
}


class AvroEncoder:
    """Writes a frame's rows as Avro.

    Args:
        schema: the Avro schema to write by (JSON text or data, or parsed). Its fields are taken from the columns of the
            same name; a column that it lacks is left out, a field without a column must take null. None: a schema made
            from the first frame's columns, all of which may be null.
        header: bytes to begin every record with (the registry's wire form); at most 16.

    >>> encoder = AvroEncoder('{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}')
    >>> bytes(encoder.encode(pl.DataFrame({"x": [1, -2]})).data)
    b'\\x02\\x03'
    """

    def __init__(self, schema: Any = None, *, header: bytes = b"") -> None:
        self.schema: AvroType | None = parse(schema) if isinstance(schema, str | dict | list) else schema
        self._header = np.frombuffer(header or b"\0", np.uint8).copy()
        self._header_size = len(header)

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """One payload per row.

        Raises:
            ConfigurationError: a column that can't be written as the schema says, or a null that it does not take;
                names field and row.
        """
        return self._encode(frame, None)

    def encode_rows(self, frame: pl.DataFrame) -> Encoded:
        """One payload per row that the schema takes; the others are in `errors`.

        Raises:
            ConfigurationError: a column that can't be written as the schema says.
        """
        errors: list[EncodeError] = []
        return without_empty(self._encode(frame, errors), errors)

    def _encode(self, frame: pl.DataFrame, errors: list[EncodeError] | None) -> EncodedRecords:
        """With `errors`, a row that can't be written is noted there and has no bytes."""
        if self.schema is None:
            self.schema = parse(avro_of(frame.schema))
        plan = plan_for(self.schema, frame)
        rows = frame.height
        offsets = np.zeros(rows + 1, np.int64)
        state = np.zeros(kernel.STATE_FIELDS, np.int64)
        data = np.empty(rows * (self._header_size + _TYPICAL * len(plan.steps)) + kernel.ROOM, np.uint8)
        done = 0
        while done < rows:
            done = kernel.write_avro(
                done, rows, plan.steps, plan.tables, self._header.ctypes.data, self._header_size, data, offsets, state
            )
            if state[kernel.REASON]:
                path, reason = plan.paths[int(state[kernel.STEP])], _REASONS[int(state[kernel.REASON])]
                if errors is None:
                    raise UnwritableError(f"field {path!r} of row {done} {reason}")
                errors.append(EncodeError(done, str(ErrorClass.UNWRITABLE), f"field {path!r} {reason}"))
                offsets[done + 1] = offsets[done]
                state[:] = 0
                done += 1
            elif done < rows:
                data = _grown(data, int(offsets[done]), done, rows)
        return EncodedRecords(data[: offsets[rows]], offsets)


def _grown(data: Any, used: int, done: int, rows: int) -> Any:
    """A larger buffer with the same beginning: by the size of the rows so far, and at least twice as large."""
    expected = used // max(done, 1) * rows
    larger = np.empty(max(2 * len(data), expected + expected // 8), np.uint8)
    larger[:used] = data[:used]
    return larger
