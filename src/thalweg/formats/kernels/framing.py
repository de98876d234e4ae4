"""The registry's wire form: a zero byte and the schema's id (four bytes, big endian) before each payload."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry
from thalweg.formats.kernels.memory import load_u8
from thalweg.formats.kernels.text import copy

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

HEADER = 5
NO_PAYLOAD = -1
TOO_SHORT = -2
OTHER_FORM = -3


@entry("void(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64[::1])")
def read_schema_ids(addresses: Int64s, lengths: Int64s, ids: Int64s) -> None:
    """The schema id of each record: `NO_PAYLOAD` for null, `TOO_SHORT`, `OTHER_FORM` where the first byte is not 0."""
    for row in range(len(addresses)):
        p = addresses[row]
        if lengths[row] < 0:
            ids[row] = NO_PAYLOAD
        elif lengths[row] == 0 or (load_u8(p) == 0 and lengths[row] < HEADER):
            ids[row] = TOO_SHORT
        elif load_u8(p) != 0:
            ids[row] = OTHER_FORM
        else:
            ids[row] = load_u8(p + 1) << 24 | load_u8(p + 2) << 16 | load_u8(p + 3) << 8 | load_u8(p + 4)


@entry("void(Array(uint8, 1, 'C', readonly=True), int64[::1], uint8[::1], uint8[::1], int64[::1])")
def add_headers(data: Bytes, offsets: Int64s, header: Bytes, out: Bytes, out_offsets: Int64s) -> None:
    """Copies every payload with a header before it; `out` has room for all of them."""
    size = len(header)
    place = 0
    for row in range(len(offsets) - 1):
        length = offsets[row + 1] - offsets[row]
        copy(out.ctypes.data + place, header.ctypes.data, size)
        copy(out.ctypes.data + place + size, data.ctypes.data + offsets[row], length)
        place += size + length
        out_offsets[row + 1] = place
