"""JSON Schema as column expressions: which records are certainly accepted. The others are looked at one by one.

An expression only ever says "certainly", never "not": what it does not know of (a keyword, a pattern that two engines
may read differently, an integer that a double can't hold) makes it say false, and the package `jsonschema` decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import polars as pl

from thalweg.kafka.schema_registry.json_types import followed

_DEEPEST = 50
_EXACT = 2**53
"""Beyond it doubles leave integers out."""
_LITERAL = r"[A-Za-z0-9 _:;,@%/!=<>.^$*+?|{}()`-]"
_CLASS = r"\[\^?[A-Za-z0-9 _:;,@%/!=<>.+*?$()|{}-]+\]"
_ESCAPED = r"\\[.\-/+*?$^|()\[\]{}\\]"
_PLAIN_PATTERN = re.compile(f"(?:{_LITERAL}|{_CLASS}|{_ESCAPED})*")
"""What Python's and Rust's expressions read alike: ASCII, no classes such as \\d or \\w, no flags, no look-around."""


class Unsure(Exception):
    """A schema, or a part of one, of which no expression knows anything. Never reaches a user."""


def certainly_accepted(
    schema: Any, columns: Mapping[str, pl.DataType], keywords: Collection[str], *, nulls: bool
) -> pl.Expr | None:
    """The rows of a frame of decoded objects that the schema certainly accepts; None: it is never certain.

    Args:
        schema: as JSON data.
        columns: the frame's, inferred from the records: text is String, whole numbers Int64 …
        keywords: those that say something in the schema's draft.
        nulls: whether a record may have a null. Else a null in a column says that the key is not there.
    """
    struct = pl.Struct(columns)
    try:
        return _Compiler(schema, frozenset(keywords) - {"format"}, nulls).fields(
            schema, struct, lambda name: pl.col(name), 0
        )
    except Unsure:
        return None


class _Compiler:
    def __init__(self, root: Any, keywords: frozenset[str], nulls: bool) -> None:
        self._root = root if isinstance(root, dict) else {}
        self._keywords = keywords
        self._nulls = nulls
        draft = str(self._root.get("$schema", ""))
        self._whole_floats = "draft-03" not in draft and "draft-04" not in draft

    def accepts(self, given: Any, value: pl.Expr, dtype: pl.DataType, depth: int) -> pl.Expr:
        """Whether a value that is not null is certainly accepted."""
        schema = self._of(given, depth)
        if schema is True:
            return pl.lit(True)
        if isinstance(dtype, pl.Struct):
            inner = value.struct
            return self.fields(schema, dtype, lambda name: inner.field(name), depth)
        conditions = [self._typed(schema, value, dtype)]
        for keyword, wanted in schema.items():
            if keyword == "type":
                continue
            if keyword in _COMBINED:
                conditions.append(self._combined(keyword, wanted, value, dtype, depth))
            elif keyword in ("enum", "const"):
                conditions.append(_one_of([wanted] if keyword == "const" else wanted, value, dtype))
            elif keyword in _OF_NUMBERS:
                if dtype.is_numeric():
                    conditions.append(_compared(keyword, wanted, value))
            elif keyword in _OF_TEXTS:
                if isinstance(dtype, pl.String):
                    conditions.append(_text(keyword, wanted, value))
            elif keyword in _OF_LISTS:
                if isinstance(dtype, pl.List):
                    conditions.append(self._list(keyword, wanted, value, dtype, depth))
            elif keyword not in _OF_OBJECTS:
                raise Unsure(keyword)
        return _all(conditions)

    def fields(self, given: Any, dtype: pl.Struct, field: Callable[[str], pl.Expr], depth: int) -> pl.Expr:
        """The same for an object, by its fields."""
        schema = self._of(given, depth)
        if schema is True:
            return pl.lit(True)
        if "object" not in _types(schema, "object"):
            raise Unsure("another type")
        present: dict[str, Any] = {each.name: each.dtype for each in dtype.fields}
        conditions = []
        for keyword, wanted in schema.items():
            if keyword in ("type", "properties", "required"):
                continue
            if keyword == "additionalProperties":
                conditions += self._additional(schema, wanted, present, field, depth)
            elif keyword == "allOf":
                conditions += [self.fields(each, dtype, field, depth + 1) for each in wanted]
            elif keyword not in _OF_NUMBERS | _OF_TEXTS | _OF_LISTS:
                raise Unsure(keyword)
        required = _names(schema.get("required", []))
        properties = schema.get("properties", {})
        for name in required - properties.keys():
            conditions.append(
                self._present(True, field(name), present[name], depth, True) if name in present else pl.lit(False)
            )
        for name, inner in properties.items():
            needed = name in required
            if name in present:
                conditions.append(self._present(inner, field(name), present[name], depth, needed))
            elif needed:
                conditions.append(pl.lit(False))
            elif self._nulls and not self._takes_null(inner, depth + 1):
                conditions.append(pl.lit(False))  # a null makes no column
        return _all(conditions)

    def _present(self, schema: Any, value: pl.Expr, dtype: pl.DataType, depth: int, needed: bool) -> pl.Expr:
        """Whether a field is accepted as it is: where it is null, it may be missing."""
        absent = not needed and (not self._nulls or self._takes_null(schema, depth + 1))
        if isinstance(dtype, pl.Null):
            return pl.lit(absent)
        try:
            accepted = self.accepts(schema, value, dtype, depth + 1)
        except Unsure:
            accepted = pl.lit(False)
        return pl.when(value.is_null()).then(pl.lit(absent)).otherwise(accepted)

    def _additional(
        self, schema: Any, wanted: Any, present: Mapping[str, pl.DataType], field: Callable[[str], pl.Expr], depth: int
    ) -> list[pl.Expr]:
        if wanted is True or wanted == {}:
            return []
        others = [name for name in present if name not in schema.get("properties", {})]
        if self._nulls and (wanted is False or not self._takes_null(wanted, depth + 1)):
            return [pl.lit(False)]  # a further key may have a null, of which nothing is seen
        if wanted is False:
            return [field(name).is_null() for name in others]
        return [self._present(wanted, field(name), present[name], depth, False) for name in others]

    def _typed(self, schema: Any, value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        names = _types(schema, None)
        if names is None:
            return pl.lit(True)
        if isinstance(dtype, pl.Float64) and "number" not in names:
            if "integer" not in names or not self._whole_floats:
                raise Unsure("another type")
            return value.is_finite() & (value.floor() == value)
        if not names & _NAMES.get(type(dtype), set()):
            raise Unsure("another type")
        return pl.lit(True)

    def _combined(self, keyword: str, wanted: Any, value: pl.Expr, dtype: pl.DataType, depth: int) -> pl.Expr:
        branches = wanted
        if keyword == "oneOf":
            # Null and one type: no value is of both.
            branches = [each for each in wanted if each != {"type": "null"}]
            types = _types(self._of(branches[0], depth + 1), None) if len(branches) == 1 else None
            if len(wanted) != 2 or types is None or "null" in types:
                raise Unsure(keyword)
        found = []
        for each in branches:
            try:
                found.append(self.accepts(each, value, dtype, depth + 1))
            except Unsure:
                if keyword != "anyOf":
                    raise
        if not found:
            raise Unsure(keyword)
        return _all(found) if keyword == "allOf" else pl.any_horizontal(found)

    def _list(self, keyword: str, wanted: Any, value: pl.Expr, dtype: pl.List, depth: int) -> pl.Expr:
        if keyword == "minItems":
            return value.list.len() >= _natural(wanted)
        if keyword == "maxItems":
            return value.list.len() <= _natural(wanted)
        if keyword != "items" or isinstance(wanted, list):
            raise Unsure(keyword)
        inner: Any = dtype.inner
        takes_null = pl.lit(self._takes_null(wanted, depth + 1))
        if isinstance(inner, pl.Null):
            return takes_null | (value.list.len() == 0)
        item = pl.element()
        accepted = self.accepts(wanted, item, inner, depth + 1)
        return value.list.eval(pl.when(item.is_null()).then(takes_null).otherwise(accepted)).list.all()

    def _takes_null(self, given: Any, depth: int) -> bool:
        """Whether null is certainly accepted."""
        try:
            schema = self._of(given, depth)
        except Unsure:
            return False
        if schema is True:
            return True
        types = _types(schema, None)
        if types is not None and "null" not in types:
            return False
        for keyword, wanted in schema.items():
            if keyword == "enum" and None not in wanted:
                return False
            if keyword == "allOf" and not all(self._takes_null(each, depth + 1) for each in wanted):
                return False
            if keyword == "anyOf" and not any(self._takes_null(each, depth + 1) for each in wanted):
                return False
            if keyword == "oneOf":
                others = [each for each in wanted if each != {"type": "null"}]
                kinds = [_types(self._of(each, depth + 1), None) for each in others]
                if len(others) + 1 != len(wanted) or any(kind is None or "null" in kind for kind in kinds):
                    return False
            if keyword not in _OF_ANY:
                return False
        return True

    def _of(self, given: Any, depth: int) -> Any:
        """A schema that is True, or a mapping: references within the document are followed."""
        if depth > _DEEPEST:
            raise Unsure("depth")
        if given is True or given == {}:
            return True
        if isinstance(given, dict) and "$ref" in given:
            if given.keys() & self._keywords - {"$ref"}:
                raise Unsure("$ref beside other keywords")
            return self._of(followed(given, self._root), depth + 1)
        if not isinstance(given, dict):
            raise Unsure("no schema")
        return {keyword: wanted for keyword, wanted in given.items() if keyword in self._keywords} or True


_COMBINED = frozenset({"allOf", "anyOf", "oneOf"})
_OF_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_OF_TEXTS = frozenset({"minLength", "maxLength", "pattern"})
_OF_LISTS = frozenset({"items", "minItems", "maxItems"})
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties"})
_OF_ANY = _COMBINED | _OF_NUMBERS | _OF_TEXTS | _OF_LISTS | _OF_OBJECTS | {"type", "enum"}
_NAMES: dict[type[pl.DataType], set[str]] = {
    pl.String: {"string"},
    pl.Boolean: {"boolean"},
    pl.Int64: {"integer", "number"},
    pl.Float64: {"number"},
    pl.List: {"array"},
}


def _types(schema: Any, default: str | None) -> Any:
    """The names of `type`; where there is none, the default alone, or None."""
    if schema is True or "type" not in schema:
        return None if default is None else {default}
    given = schema["type"]
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) for name in names):
        raise Unsure("type")
    return set(names)


def _names(required: Any) -> frozenset[str]:
    if not isinstance(required, list):
        raise Unsure("required")
    return frozenset(required)


def _all(conditions: list[pl.Expr]) -> pl.Expr:
    return pl.all_horizontal(conditions) if conditions else pl.lit(True)


def _one_of(wanted: Any, value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if not isinstance(wanted, list):
        raise Unsure("enum")
    numbers = [
        each for each in wanted if isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < _EXACT
    ]
    found: list[Any]
    if isinstance(dtype, pl.String):
        found = [each for each in wanted if isinstance(each, str)]
    elif isinstance(dtype, pl.Boolean):
        found = [each for each in wanted if isinstance(each, bool)]
    elif isinstance(dtype, pl.Float64):
        found = [float(each) for each in numbers]
    elif isinstance(dtype, pl.Int64):
        found = [int(each) for each in numbers if each == int(each)]
    else:
        raise Unsure("enum")
    return value.is_in(found) if found else pl.lit(False)


def _compared(keyword: str, wanted: Any, value: pl.Expr) -> pl.Expr:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not abs(wanted) < _EXACT:
        raise Unsure(keyword)
    if keyword == "multipleOf" and (not isinstance(wanted, int) or wanted <= 0):
        raise Unsure(keyword)
    compared = {
        "multipleOf": value % max(1, int(wanted)) == 0,
        "minimum": value >= wanted,
        "maximum": value <= wanted,
        "exclusiveMinimum": value > wanted,
        "exclusiveMaximum": value < wanted,
    }[keyword]
    return compared & value.is_between(-_EXACT, _EXACT, closed="none")


def _text(keyword: str, wanted: Any, value: pl.Expr) -> pl.Expr:
    if keyword == "minLength":
        return value.str.len_chars() >= _natural(wanted)
    if keyword == "maxLength":
        return value.str.len_chars() <= _natural(wanted)
    if not isinstance(wanted, str) or not _PLAIN_PATTERN.fullmatch(wanted) or "(?" in wanted or "--" in wanted:
        raise Unsure(keyword)
    try:
        pl.Series([""]).str.contains(wanted)
        re.compile(wanted)
    except (pl.exceptions.PolarsError, re.error):
        raise Unsure(keyword) from None
    return value.str.contains(wanted)


def _natural(wanted: Any) -> int:
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted < 2**31:
        raise Unsure("length")
    return wanted
