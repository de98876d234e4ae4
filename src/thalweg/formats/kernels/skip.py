"""JSON values that no column wants: passed over, but checked as strictly as those that are read."""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import inner
from thalweg.formats.kernels.memory import load_u8, load_u32
from thalweg.formats.kernels.numbers import FLOAT, NOT_A_NUMBER, scan_number
from thalweg.formats.kernels.text import ESCAPED, NOT_A_STRING, scan_string, skip_escaped, valid_utf8

_TRUE = 0x65757274
_ALSE = 0x65736C61
_NULL = 0x6C6C756E

MAX_DEPTH = 62
"""Containers within containers that this file follows; deeper ones go to the general parser."""


@inner
def skip_space(p: int, end: int) -> int:
    """The first address from `p` on that holds no JSON white space."""
    while p < end:
        byte = load_u8(p)
        if byte != 32 and byte != 10 and byte != 13 and byte != 9:
            break
        p += 1
    return p


@inner
def skip_word(p: int, end: int) -> int:
    """Passes `true`, `false` or `null`; -1 for anything else."""
    if p + 4 > end:
        return -1
    word = load_u32(p)
    if word in (_TRUE, _NULL):
        return p + 4
    if p + 5 <= end and load_u8(p) == 102 and load_u32(p + 1) == _ALSE:
        return p + 5
    return -1


@inner
def skip_string(p: int, end: int) -> int:
    """Passes a string from its opening quote on; -1 where it is none."""
    close, shape, ascii_only = scan_string(p + 1, end)
    if shape == ESCAPED:
        close = skip_escaped(p + 1, end)
        return close + 1 if close >= 0 else -1
    if shape == NOT_A_STRING:
        return -1
    if not ascii_only and not valid_utf8(p + 1, close):
        return -1
    return close + 1


@inner
def skip_scalar(p: int, end: int) -> int:
    """Passes a string, number or word; -1 where it is none, or not a simple one."""
    byte = load_u8(p)
    if byte == 34:
        return skip_string(p, end)
    if byte == 45 or 48 <= byte <= 57:
        p, kind, _, _, exponent = scan_number(p, end)
        # A mantissa of up to 19 digits times 10**280 is far from the largest double.
        return -1 if kind == NOT_A_NUMBER or (kind == FLOAT and exponent > 280) else p
    return skip_word(p, end)


@inner
def skip_key(p: int, end: int) -> int:
    """Passes a key and its colon, with white space; -1 where there is none."""
    if p >= end or load_u8(p) != 34:
        return -1
    p = skip_string(p, end)
    if p < 0:
        return -1
    p = skip_space(p, end)
    if p >= end or load_u8(p) != 58:
        return -1
    return skip_space(p + 1, end)


@inner
def skip_value(p: int, end: int) -> int:
    """Passes any value that starts at `p`; -1 where it is not JSON, or not simple enough for this file."""
    depth = 0
    objects = np.uint64(0)  # one bit per open container, the innermost lowest: 1 for an object
    one = np.uint64(1)
    while True:
        if p >= end:
            return -1
        byte = load_u8(p)
        if byte == 123 or byte == 91:
            if depth == MAX_DEPTH:
                return -1
            depth += 1
            objects = objects << one | (one if byte == 123 else np.uint64(0))
            p = skip_space(p + 1, end)
            if p >= end:
                return -1
            if load_u8(p) != byte + 2:  # } is { + 2, ] is [ + 2
                if byte == 123:
                    p = skip_key(p, end)
                    if p < 0:
                        return -1
                continue
            p += 1
            depth -= 1
            objects >>= one
        else:
            p = skip_scalar(p, end)
            if p < 0:
                return -1
        # A value has ended: close what it closes, until a comma asks for the next.
        while depth > 0:
            p = skip_space(p, end)
            if p >= end:
                return -1
            byte = load_u8(p)
            p += 1
            in_object = objects & one == one
            if byte == 44:
                p = skip_space(p, end)
                if in_object:
                    p = skip_key(p, end)
                    if p < 0:
                        return -1
                break
            if byte != (125 if in_object else 93):
                return -1
            depth -= 1
            objects >>= one
        if depth == 0:
            return p
