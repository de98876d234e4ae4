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

ROOT = 0
"""The node before every record."""
LOST = 1
"""The node after a stretch that was not learned: nothing is learned to follow it."""
FIRST_NODE = 2

# Columns of the node table.
LENGTH = 0
COLUMN = 1
OBJECT = 2
"""The object that the key belongs to: 0 is the record, others are numbered by the column that holds them, plus 1."""
FIRST_FOLLOWER = 3

# Where in an object a stretch begins.
AT_START = 0
"""At the start of the record: its brace comes first."""
OPENED = 1
"""Behind the brace of an object within."""
INSIDE = 2
"""Behind a value."""

# Entries of the counter table.
NODE_COUNT = 0
PREDICTED = 1
SEARCHED = 2

UNKNOWN = -1
"""In place of a column: a key that no column has."""
CLOSING = -2
"""In place of a column: here is the object's closing brace."""
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
def predict(p: int, end: int, node: int, inside: int, nodes: Int64s, node_bytes: int) -> int:
    """Which node's bytes stand at `p`, of those in the object `inside` that followed `node` before; -1 for none.

    Bytes and object tell a stretch behind a brace from one behind a value: after the same node, the former are in the
    object that was opened and the latter are not.
    """
    for i in range(FIRST_FOLLOWER, FIRST_FOLLOWER + FOLLOWERS):
        follower: int = nodes[node, i]
        if follower < 0:
            return -1
        stretch = node_bytes + follower * NODE_BYTES
        if _equal(p, stretch, nodes[follower, LENGTH], end) and nodes[follower, OBJECT] == inside:
            return follower
    return -1


@inner
def learn(
    start: int, length: int, column: int, inside: int, node: int, nodes: Int64s, node_bytes: Bytes, counts: Int64s
) -> int:
    """Notes that a stretch followed `node`; gives its node, or `LOST` where there is no room."""
    if length > NODE_BYTES:
        return LOST
    here = node_bytes.ctypes.data
    target = -1
    for other in range(FIRST_NODE, counts[NODE_COUNT]):
        same_place = nodes[other, LENGTH] == length and nodes[other, OBJECT] == inside
        if same_place and _equal(start, here + other * NODE_BYTES, length, start + length):
            target = other
            break
    if target < 0:
        target = counts[NODE_COUNT]
        if target == NODES:
            return LOST
        counts[NODE_COUNT] += 1
        for i in range(length):
            node_bytes[target, i] = load_u8(start + i)
        nodes[target, LENGTH] = length
        nodes[target, COLUMN] = column
        nodes[target, OBJECT] = inside
    if node == LOST:
        return target
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
    """Fills an open-addressing table (FNV-1a, a power of two, -1 is free) with the keys at `places`: start,
    length, and the object that the key belongs to."""
    buckets[:] = -1
    mask = np.uint64(len(buckets) - 1)
    for key in range(len(places)):
        state = _hash_byte(np.uint64(0xCBF29CE484222325), places[key, 2])
        for i in range(places[key, 0], places[key, 0] + places[key, 1]):
            state = _hash_byte(state, key_bytes[i])
        at = state & mask
        while buckets[at] >= 0:
            at = (at + np.uint64(1)) & mask
        buckets[at] = key


@inner
def _find(start: int, length: int, inside: int, key_bytes: Bytes, places: Int64s, buckets: Int64s) -> int:
    mask = np.uint64(len(buckets) - 1)
    state = _hash_byte(np.uint64(0xCBF29CE484222325), inside)
    for i in range(length):
        state = _hash_byte(state, load_u8(start + i))
    at = state & mask
    while buckets[at] >= 0:
        key: int = buckets[at]
        if places[key, 1] == length and places[key, 2] == inside:
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
def search(
    p: int, end: int, where: int, inside: int, key_bytes: Bytes, places: Int64s, buckets: Int64s
) -> tuple[int, int]:
    """Reads what stands between two values without any guess: (address of the next value, column of its key).

    In place of the column: `UNKNOWN`, `CLOSING` (then the address is that of the brace), or `BROKEN`.
    """
    p = skip_space(p, end)
    if p >= end:
        return p, BROKEN
    if where == INSIDE and load_u8(p) == 125:
        return p, CLOSING
    if where != OPENED:
        if load_u8(p) != (123 if where == AT_START else 44):
            return p, BROKEN
        p = skip_space(p + 1, end)
        if p >= end:
            return p, BROKEN
    if where != INSIDE and load_u8(p) == 125:
        return p, CLOSING
    if load_u8(p) != 34:
        return p, BROKEN
    start = p + 1
    close, shape, _ = scan_string(start, end)
    if shape != PLAIN or not valid_utf8(start, close):
        return p, BROKEN  # an escape may spell a key that a column has: the general parser knows
    p = skip_space(close + 1, end)
    if p >= end or load_u8(p) != 58:
        return p, BROKEN
    return skip_space(p + 1, end), _find(start, close - start, inside, key_bytes, places, buckets)
