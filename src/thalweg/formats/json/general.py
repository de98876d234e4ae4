"""The general parser: one record at a time, any JSON, and a named error for what is none."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from thalweg.formats.errors import MAX_DEPTH, ErrorClass, Refused

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class GeneralParser:
    """Parses records one by one.

    Args:
        exact: read numbers with a point as `Decimal` in place of float, for schemas with decimal columns.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._decoder = msgspec.json.Decoder(float_hook=Decimal) if exact else msgspec.json.Decoder()

    def record(self, payload: bytes | None) -> dict[str, Any]:
        """The fields of one record; of duplicate keys the last counts.

        Raises:
            Refused: with the class of the error.
        """
        if payload is None:
            raise Refused(ErrorClass.NULL_PAYLOAD, "the record has no value")
        if not payload:
            raise Refused(ErrorClass.EMPTY_PAYLOAD, "the value has no bytes")
        value = self.value(payload)
        if not isinstance(value, dict):
            raise Refused(ErrorClass.NOT_AN_OBJECT, f"expected a JSON object, got {describe(value)}")
        return value

    def value(self, payload: bytes) -> Any:
        """Any JSON value.

        Raises:
            Refused: with the class of the error.
        """
        if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and _depth(payload) > MAX_DEPTH:
            raise _too_deep()
        return self._decode(payload)

    def values(self, parts: list[bytes]) -> list[Any]:
        """Many values that the kernel has checked (so none of them is too deep), in one go.

        Raises:
            Refused: one of them is no JSON to this parser.
        """
        values: list[Any] = self._decode(b"[" + b",".join(parts) + b"]")
        return values

    def _decode(self, payload: bytes) -> Any:
        try:
            return self._decoder.decode(payload)
        except UnicodeDecodeError as error:
            raise Refused(ErrorClass.BAD_UTF8, f"a string is not UTF-8: {error.reason}") from None
        except RecursionError:
            raise _too_deep() from None
        except msgspec.ValidationError as error:
            # Without a type to check against, msgspec validates nothing but the range of numbers.
            raise Refused(ErrorClass.NUMBER_OUT_OF_RANGE, str(error)) from None
        except msgspec.DecodeError as error:
            raise Refused(ErrorClass.MALFORMED_JSON, str(error)) from None


def describe(value: object) -> str:
    """A value for an error message: its JSON type and, if short, itself.

    >>> describe("x"), describe(None), describe([1, 2])
    ('string "x"', 'null', 'an array')
    """
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    name = "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    text = msgspec.json.encode(value).decode() if not isinstance(value, Decimal) else str(value)
    return f"{name} {text if len(text) <= 60 else text[:57] + '…'}"


def _too_deep() -> Refused:
    return Refused(ErrorClass.TOO_DEEP, f"more than {MAX_DEPTH} arrays or objects within each other")


def _depth(payload: bytes) -> int:
    """How deep the brackets outside of strings nest."""
    bare = np.frombuffer(_STRINGS.sub(b"", payload), np.uint8)
    opening = ((bare == ord("[")) | (bare == ord("{"))).astype(np.int64)
    closing = ((bare == ord("]")) | (bare == ord("}"))).astype(np.int64)
    return int(np.cumsum(opening - closing).max(initial=0))
