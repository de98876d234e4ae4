"""What is wrong with a textual condition, and where."""

from __future__ import annotations

from thalweg.errors import ConfigurationError


class ConditionError(ConfigurationError):
    """A textual condition that can't be read, or does not fit the events.

    Attributes:
        reason: what is wrong.
        text: the condition.
        line, column: where, from 1.
    """

    def __init__(self, reason: str, text: str, line: int, column: int) -> None:
        self.reason, self.text, self.line, self.column = reason, text, line, column
        lines = text.split("\n")
        shown = lines[line - 1] if 0 < line <= len(lines) else text
        super().__init__(f"line {line}, column {column}: {reason}\n    {shown}\n    {' ' * (column - 1)}^")

    def __reduce__(self) -> tuple[type[ConditionError], tuple[str, str, int, int]]:
        return ConditionError, (self.reason, self.text, self.line, self.column)
