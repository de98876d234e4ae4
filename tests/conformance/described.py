"""What only a case's description says, in the few forms that can be read without guessing.

"Structured fields repeat the description for a generic runner; where they say less, the description decides." A filter
is a condition on fields of the records ("records with value above 50"); an aggregate is a column named after it
(`max_foo`; `max`, with "of foo" in the description). What can't be read is refused, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tests.conformance.not_served import NotServed

Case = dict[str, Any]

_OPERATORS = {
    "is not": "<>",
    "is": "=",
    "other than": "<>",
    "not": "<>",
    "equal to": "=",
    "above": ">",
    "over": ">",
    "greater than": ">",
    "more than": ">",
    "below": "<",
    "under": "<",
    "less than": "<",
    "at least": ">=",
    "at most": "<=",
    "": "=",
}
_LITERAL = r"(?:'[^']*'|-?\d+(?:\.\d+)?\b(?! ?(?:s|ms|seconds?|minutes?|hours?|days?)\b))"
_ONE = rf"(\w+) (?:({'|'.join(word for word in _OPERATORS if word)}) )?({_LITERAL})"
_FILTER = re.compile(rf"\b(?:records|events|rows) (?:with|whose|where) ({_ONE}(?: and {_ONE})*)")
_PART = re.compile(_ONE)

COLUMN_FUNCTIONS = ("count", "sum", "avg", "mean", "min", "max")
"""The aggregates that a column is named after."""
UNREADABLE = {
    "having": "a condition on results",
    "top_n": "the best of each group",
    "rank": "ranks",
    "flat_map": "rows made of lists",
    "computed_key": "a computed key",
    "chained_windows": "chained windows",
    "statistics": "statistics",
    "union": "several filters of one stream",
}
"""What descriptions say in words of their own, by the feature that says so."""


def explained(case: Case, fields: Collection[str]) -> Case:
    """The case with a filter and aggregates that its description gives.

    Args:
        fields: of its records.

    Raises:
        NotServed: the description says more than can be read.
    """
    features = case.get("features") or ()
    for feature, what in UNREADABLE.items():
        if feature in features and not case.get(feature):
            raise NotServed(f"{case['case']}: its description asks for {what}, which no structured field says")
    more: Case = {}
    if "filter" in features and not case.get("filter"):
        more["filter"] = filter_of(case, fields)
    if case.get("aggregates") is None and "assignment" not in features and (aggregates := aggregates_of(case, fields)):
        more["aggregates"] = aggregates
    return {**case, **more}


def filter_of(case: Case, fields: Collection[str]) -> str:
    """The one filter of a description, as SQL.

    Raises:
        NotServed: there is none that can be read, or there are several.
    """
    found = [match.group(1) for match in _FILTER.finditer(case["description"])]
    parts = [_PART.findall(text) for text in found]
    if len(found) != 1 or not all(name in fields for name, _, _ in parts[0]):
        raise NotServed(f"{case['case']}: the filter that its description tells of")
    return " AND ".join(f"{name} {_OPERATORS[word]} {literal}" for name, word, literal in parts[0])


def aggregates_of(case: Case, fields: Collection[str]) -> list[Case]:
    """The aggregates that columns are named after."""
    subjects = {word for word in re.findall(r"\bof (\w+)", case["description"]) if word in fields}
    found = []
    for column in case["columns"]:
        name = column["name"]
        function, _, of = name.partition("_")
        if name in fields or function not in COLUMN_FUNCTIONS:
            continue
        if of and of not in fields:
            continue
        if not of and function != "count" and len(subjects) != 1:
            continue
        subject = of or (None if function == "count" else next(iter(subjects)))
        found.append({"out": name, "fn": function} | ({"of": subject} if subject else {}))
    return found
