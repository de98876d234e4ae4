"""Decision tables in GoRules' JSON decision model (JDM), run by its engine (`zen-engine`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import ConfigurationError, MissingExtraError


class DecisionTable:
    """A decision: an event in, outputs out. A function like any other: `stream.map(table)`, or in a rule's condition.

    Called with an event (a `Row` or a mapping) it returns the event with the decision's outputs; `decide` returns the
    outputs alone. Runs per event, in Rust.

    Args:
        content: the JDM document: a mapping, JSON text, or the path of a file.

    Raises:
        ConfigurationError: no JDM document, or a cell that is no expression. (The engine itself would take such a cell
            for one that never matches.)
        MissingExtraError: `zen-engine` is not installed (`pip install 'thalweg[decisions]'`).

    >>> table = DecisionTable.of({"amount": ["> 1000", ""]}, {"risk": ["'high'", "'low'"]})
    >>> table({"amount": 5000}), table.decide({"amount": 5})
    ({'amount': 5000, 'risk': 'high'}, {'risk': 'low'})
    """

    def __init__(self, content: Mapping[str, Any] | str | Path) -> None:
        self.content = _document(content)
        zen = _zen()
        for problem in _bad_cells(self.content, zen):
            raise ConfigurationError(f"decision table: {problem}")
        try:
            self._decision = zen.ZenEngine().create_decision(json.dumps(self.content))
            self._decision.validate()
        except Exception as error:  # the engine raises RuntimeError, and ValueError
            raise ConfigurationError(f"not a JSON decision model: {_first_lines(error)}") from error

    @classmethod
    def of(
        cls, inputs: Mapping[str, Sequence[str]], outputs: Mapping[str, Sequence[str]], *, hit_policy: str = "first"
    ) -> DecisionTable:
        """A table from its columns: a unary test per row for each input ("" for any), an expression for each output.

        Args:
            hit_policy: "first": the first row that fits gives the outputs; "collect": all of them, as a list.
        """
        if hit_policy not in ("first", "collect"):
            raise ConfigurationError(f"hit_policy is {hit_policy!r}; use 'first' or 'collect'")
        lengths = {len(cells) for cells in (*inputs.values(), *outputs.values())}
        if not outputs or len(lengths) != 1:
            raise ConfigurationError("a decision table needs outputs, and as many cells in each column")
        ins = [{"id": f"i{n}", "name": name, "field": name} for n, name in enumerate(inputs)]
        outs = [{"id": f"o{n}", "name": name, "field": name} for n, name in enumerate(outputs)]
        columns = dict(zip([c["id"] for c in (*ins, *outs)], (*inputs.values(), *outputs.values()), strict=True))
        rules = [
            {"_id": f"r{row}", **{id: cells[row] for id, cells in columns.items()}} for row in range(lengths.pop())
        ]
        table = {"hitPolicy": hit_policy, "inputs": ins, "outputs": outs, "rules": rules}
        nodes = [("in", "inputNode", {}), ("table", "decisionTableNode", {"content": table}), ("out", "outputNode", {})]
        place = {"x": 0, "y": 0}
        edges = [("in", "table"), ("table", "out")]
        return cls(
            {
                "contentType": "application/vnd.gorules.decision",
                "nodes": [{"id": id, "name": id, "type": kind, "position": place, **more} for id, kind, more in nodes],
                "edges": [{"id": a + b, "type": "edge", "sourceId": a, "targetId": b} for a, b in edges],
            }
        )

    def decide(self, event: Mapping[str, Any]) -> Any:
        """The outputs for an event: a mapping; a list of them where the hit policy is "collect".

        Raises:
            ValueError: the engine can't evaluate the event.
        """
        try:
            return self._decision.evaluate(_plain(event))["result"]
        except RuntimeError as error:
            raise ValueError(f"the decision failed: {_first_lines(error)}") from error

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The event with the outputs; those of "collect" stand under `decisions`."""
        result = self.decide(event)
        return {**_plain(event), **(result if isinstance(result, dict) else {"decisions": result})}


def _plain(event: Mapping[str, Any]) -> dict[str, Any]:
    to_dict = getattr(event, "to_dict", None)
    return to_dict() if callable(to_dict) else dict(event)


def _document(content: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(content, Mapping):
        return dict(content)
    try:
        text = content if isinstance(content, str) and content.lstrip().startswith("{") else Path(content).read_text()
        read = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"not a JSON decision model: {error}") from error
    if not isinstance(read, dict):
        raise ConfigurationError("not a JSON decision model: it has to be an object")
    return read


def _bad_cells(content: Mapping[str, Any], zen: Any) -> Iterator[str]:
    for node in content.get("nodes") or ():
        if not isinstance(node, dict) or node.get("type") != "decisionTableNode":
            continue
        table = node.get("content") or {}
        for row, rule in enumerate(table.get("rules") or ()):
            for column in table.get("inputs") or ():
                test = zen.compile_unary_expression if column.get("field") else zen.compile_expression
                yield from _bad_cell(test, rule.get(column["id"]), node, row, column)
            for column in table.get("outputs") or ():
                yield from _bad_cell(zen.compile_expression, rule.get(column["id"]), node, row, column)


def _bad_cell(test: Any, cell: Any, node: Mapping[str, Any], row: int, column: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(cell, str) or not cell.strip():
        return
    try:
        test(cell)
    except (RuntimeError, ValueError) as error:
        name = column.get("name") or column["id"]
        reason = _first_lines(error)
        yield f"{node.get('name')!r}, row {row + 1}, column {name!r}: {cell!r} can't be read: {reason}"


def _first_lines(error: Exception) -> str:
    """What the engine says, without the stack of its own code."""
    return re.sub(r"\s+", " ", str(error).split("Stack backtrace")[0]).strip()


def _zen() -> Any:
    try:
        import zen
    except ImportError:
        raise MissingExtraError("decision tables need zen-engine: pip install 'thalweg[decisions]'") from None
    return zen
