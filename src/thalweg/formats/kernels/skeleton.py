"""What the last records looked like: the bytes that stand between two values, and what came after what.

A node is such a stretch of bytes, from the end of one value to the start of the next: white space, comma, key, colon.
It leads to the nodes that followed it. Reading a record then means: compare the next bytes with those of the few nodes
that came here before, and the key, its column and the place of its value are known. Several shapes of record
live side by side, as branches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import load_u8, load_u64
from thalweg.formats.kernels.skip import skip_space
from thalweg.formats.kernels.text import PLAIN, scan_string, valid_utf8

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

NODES = 256
NODE_BYTES = 64
"""Longer stretches are not learned."""
FOLLOWERS = 4

# Columns of the node table.
LENGTH = 0
COLUMN = 1
FIRST_FOLLOWER = 2

# Entries of the counter table.
NODE_COUNT = 0
PREDICTED = 1
SEARCHED = 2

UNKNOWN = -1
"""In place of a column: a key that no column has."""
NO_MEMBER = -2
"""In place of a column: the object ends here."""
BROKEN = -3
"""In place of a column: not simple JSON."""


@hot
def _equal(p: int, stretch: int, length: int, end: int) -> bool:
    """Whether the bytes at `p` are those at `stretch` (which is readable to a multiple of eight)."""
    if p + length > end:
        return False
    done = 0
    while done + 8 <= length:
        if load_u64(p + done) != load_u64(stretch + done):
            return False
        done += 8
    rest = length - done
    if rest == 0:
        return True
    if p + done + 8 <= end:
        differing = load_u64(p + done) ^ load_u64(stretch + done)
        return bool(differing << np.uint64(64 - 8 * rest) == np.uint64(0))
    while done < length:
        if load_u8(p + done) != load_u8(stretch + done):
            return False
        done += 1
    return True


@hot
def predict(p: int, end: int, node: int, nodes: Int64s, node_bytes: int) -> int:
    """Which node's bytes stand at `p`, of those that followed `node` before; -1 for none of them."""
    for i in range(FIRST_FOLLOWER, FIRST_FOLLOWER + FOLLOWERS):
        follower: int = nodes[node, i]
        if follower < 0:
            return -1
        if _equal(p, node_bytes + follower * NODE_BYTES, nodes[follower, LENGTH], end):
            return follower
    return -1


@inner
def learn(start: int, length: int, column: int, node: int, nodes: Int64s, node_bytes: Bytes, counts: Int64s) -> int:
    """Notes that a stretch followed `node`; gives its node, or the root where there is no room."""
    if length > NODE_BYTES:
        return 0
    here = node_bytes.ctypes.data
    target = -1
    for other in range(1, counts[NODE_COUNT]):
        if nodes[other, LENGTH] == length and _equal(start, here + other * NODE_BYTES, length, start + length):
            target = other
            break
    if target < 0:
        target = counts[NODE_COUNT]
        if target == NODES:
            return 0
        counts[NODE_COUNT] += 1
        for i in range(length):
            node_bytes[target, i] = load_u8(start + i)
        nodes[target, LENGTH] = length
        nodes[target, COLUMN] = column
    for i in range(FIRST_FOLLOWER, FIRST_FOLLOWER + FOLLOWERS):
        if nodes[node, i] == target:
            break
        if nodes[node, i] < 0:
            nodes[node, i] = target
            break
    return target


@inner
def _hash_byte(state: np.uint64, byte: int) -> np.uint64:
    return (state ^ np.uint64(byte)) * np.uint64(0x100000001B3)


@entry("void(Array(uint8, 1, 'C', readonly=True), int64[:, ::1], int64[::1])")
def index_keys(key_bytes: Bytes, places: Int64s, buckets: Int64s) -> None:
    """Fills an open-addressing table (FNV-1a, a power of two, -1 is free) with the keys at `places` (start, length)."""
    buckets[:] = -1
    mask = np.uint64(len(buckets) - 1)
    for key in range(len(places)):
        state = np.uint64(0xCBF29CE484222325)
        for i in range(places[key, 0], places[key, 0] + places[key, 1]):
            state = _hash_byte(state, key_bytes[i])
        at = state & mask
        while buckets[at] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[at] = key


@inner
def _find(start: int, length: int, key_bytes: Bytes, places: Int64s, buckets: Int64s) -> int:
    mask = np.uint64(len(buckets) - 1)
    state = np.uint64(0xCBF29CE484222325)
    for i in range(length):
        state = _hash_byte(state, load_u8(start + i))
    at = state & mask
    while buckets[at] >= 0:
        key: int = buckets[at]
        if places[key, 1] == length:
            same = True
            for i in range(length):
                if key_bytes[places[key, 0] + i] != load_u8(start + i):
                    same = False
                    break
            if same:
                return key
        at = (at + np.uint64(1)) & mask
    return UNKNOWN


@inner
def search(p: int, end: int, first: bool, key_bytes: Bytes, places: Int64s, buckets: Int64s) -> tuple[int, int]:
    """Reads what stands between two values without any guess: (address of the next value, column of its key).

    In place of the column: `UNKNOWN`, `NO_MEMBER` (the record ends here as it should), or `BROKEN`.
    """
    p = skip_space(p, end)
    if p >= end:
        return p, BROKEN
    byte = load_u8(p)
    if byte == 125 and not first:
        p = skip_space(p + 1, end)
        return p, NO_MEMBER if p == end else BROKEN
    if byte != (123 if first else 44):
        return p, BROKEN
    p = skip_space(p + 1, end)
    if p >= end or load_u8(p) != 34:
        return p, BROKEN
    start = p + 1
    close, shape, _ = scan_string(start, end)
    if shape != PLAIN or not valid_utf8(start, close):
        return p, BROKEN  # an escape may spell a key that a column has: the general parser knows
    p = close + 1
    length = close - start
    p = skip_space(p, end)
    if p >= end or load_u8(p) != 58:
        return p, BROKEN
    return skip_space(p + 1, end), _find(start, length, key_bytes, places, buckets)
