"""Sigma's detections as expressions over columns.

What Sigma says: texts compare without case unless `cased`; a field that is missing or null has no value, so that every
test of it but `null` and `exists: false` is false, and its negation true.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from ipaddress import IPv4Network
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError

Fields = Mapping[str, str | pl.Expr]
"""What columns are called, where not as in the rules."""


class Detection:
    """Compiles the detection of one rule.

    Args:
        where: the rule, for errors.
        fields: field of the rule → column, or expression.
    """

    def __init__(self, where: str, fields: Fields) -> None:
        self.where = where
        self.fields = fields

    def column(self, name: str) -> pl.Expr:
        """The column behind a field."""
        found = self.fields.get(name, name)
        return pl.col(found) if isinstance(found, str) else found

    def condition(self, node: Any) -> pl.Expr:
        """A condition of pySigma's as an expression that is never null.

        Raises:
            ConfigurationError: something that Thalweg has no expression for.
        """
        kind = type(node).__name__
        if kind in ("ConditionAND", "ConditionOR"):
            parts = [self.condition(part) for part in node.args]
            both = kind == "ConditionAND"
            return reduce((lambda a, b: a & b) if both else (lambda a, b: a | b), parts)
        if kind == "ConditionNOT":
            return ~self.condition(node.args[0])
        if kind == "ConditionFieldEqualsValueExpression":
            return self._test(self.column(node.field), node.value).fill_null(False)
        raise self._refused("keywords without a field" if kind == "ConditionValueExpression" else kind)

    def _refused(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"Sigma rule {self.where!r}: {what} can't be said over columns")

    def _test(self, column: pl.Expr, value: Any) -> pl.Expr:
        kind = type(value).__name__
        if kind == "SigmaNull":
            return column.is_null()
        if kind == "SigmaExists":
            return column.is_not_null() if bool(value) else column.is_null()
        if kind in ("SigmaBool", "SigmaNumber"):
            dtype = pl.Boolean() if kind == "SigmaBool" else pl.Float64()
            constant = value.boolean if kind == "SigmaBool" else value.number
            return column.cast(dtype, strict=False).eq(pl.lit(constant))
        if kind == "SigmaCompareExpression":
            return self._compare(column.cast(pl.Float64, strict=False), value)
        if kind == "SigmaExpansion":  # one value in several writings: base64offset, windash
            return pl.any_horizontal([self._test(column, one).fill_null(False) for one in value.values])
        if kind in ("SigmaString", "SigmaCasedString"):
            for part in value.s:
                if type(part).__name__ == "Placeholder":
                    raise self._refused(f"the placeholder %{part.name}% (expand), whose values are not in the rule,")
            return _text(column.cast(pl.String), value, cased=kind == "SigmaCasedString")
        if kind == "SigmaRegularExpression":
            return column.cast(pl.String).str.contains(self._regex(value))
        if kind == "SigmaCIDRExpression":
            return self._network(column.cast(pl.String), value.network)
        if kind == "SigmaFieldReference":
            return self._reference(column.cast(pl.String), value)
        raise self._refused(kind.removeprefix("Sigma"))

    def _compare(self, column: pl.Expr, value: Any) -> pl.Expr:
        name = {"LT": "lt", "LTE": "le", "GT": "gt", "GTE": "ge", "NEQ": "ne"}[value.op.name]
        compared: pl.Expr = getattr(column, name)(value.number.number)
        return compared

    def _reference(self, column: pl.Expr, value: Any) -> pl.Expr:
        other = self.column(value.field).cast(pl.String)
        if value.starts_with and value.ends_with:
            return column.str.contains(other, literal=True)
        if value.starts_with:
            return column.str.starts_with(other)
        return column.str.ends_with(other) if value.ends_with else column == other

    def _regex(self, value: Any) -> str:
        flags = "".join(sorted({"IGNORECASE": "i", "MULTILINE": "m", "DOTALL": "s"}[flag.name] for flag in value.flags))
        pattern = f"(?{flags}){value.regexp.original}" if flags else str(value.regexp.original)
        try:
            pl.DataFrame({"a": [""]}).select(pl.col("a").str.contains(pattern))
        except pl.exceptions.PolarsError as error:
            reason = re.sub(r"\s+", " ", str(error))
            raise ConfigurationError(f"Sigma rule {self.where!r}: {pattern!r} is no pattern here: {reason}") from None
        return pattern

    def _network(self, column: pl.Expr, network: Any) -> pl.Expr:
        if not isinstance(network, IPv4Network):
            raise self._refused(f"the IPv6 network {network}")
        parts = column.str.extract_groups(r"^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$")
        numbers = [parts.struct.field(str(n)).cast(pl.Int64) for n in range(1, 5)]
        address = reduce(lambda a, b: a * 256 + b, numbers)
        first, last = int(network.network_address), int(network.broadcast_address)
        return address.is_between(first, last)


def _text(column: pl.Expr, value: Any, *, cased: bool) -> pl.Expr:
    """A text that may have wildcards: `*` for any, `?` for one character."""
    parts = list(value.s)
    plain = [part for part in parts if isinstance(part, str)]
    if not cased:
        column, plain = column.str.to_lowercase(), [part.lower() for part in plain]
    shape = "".join("t" if isinstance(part, str) else "*" if part.name == "WILDCARD_MULTI" else "?" for part in parts)
    text = plain[0] if plain else ""
    simple = {
        "": lambda: column == "",
        "t": lambda: column == text,
        "*": lambda: column.is_not_null(),
        "t*": lambda: column.str.starts_with(text),
        "*t": lambda: column.str.ends_with(text),
        "*t*": lambda: column.str.contains(text, literal=True),
    }
    if shape in simple:
        return simple[shape]()
    texts = iter(plain)
    pattern = "".join({"*": ".*", "?": "."}.get(sign) or re.escape(next(texts)) for sign in shape)
    return column.str.contains(f"(?s)^{pattern}$")
