"""The plan nodes of joins whose state is bounded by time: window, interval and as-of joins."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.windows import AlignedWindow, SessionWindow

_ANY = -(2**62)


@dataclass(frozen=True, init=False)
class Interval:
    """How far apart in time the rows of a pair may be: left time - right time, from `lower` to `upper`.

    Args:
        lower: a duration, negative where the right row may come later; None: no bound.
        upper: likewise, at least `lower`.
        closed: which ends count: "both", "left" (the lower), "right" (the upper) or "none".

    >>> Interval("-1m", "5s", closed="none")
    Interval(lower=-59999, upper=4999)
    """

    lower: int | None
    """The smallest difference, ms."""
    upper: int | None
    """The largest difference, ms."""

    def __init__(self, lower: Duration | None, upper: Duration | None, *, closed: str = "both") -> None:
        if closed not in ("both", "left", "right", "none"):
            raise ConfigurationError(f"closed is {closed!r}; use 'both', 'left', 'right' or 'none'")
        least = None if lower is None else _signed(lower) + (closed not in ("both", "left"))
        most = None if upper is None else _signed(upper) - (closed not in ("both", "right"))
        if least is None and most is None:
            raise ConfigurationError("an Interval needs a bound; without any, join without within=")
        if least is not None and most is not None and least > most:
            raise ConfigurationError(f"Interval({lower!r}, {upper!r}, closed={closed!r}) holds nothing")
        object.__setattr__(self, "lower", least)
        object.__setattr__(self, "upper", most)

    def describe(self) -> str:
        """For `explain()`."""
        least = "" if self.lower is None else f"{self.lower} ms ≤ "
        most = "" if self.upper is None else f" ≤ {self.upper} ms"
        return f"{least}left time - right time{most}"


def _signed(value: Duration) -> int:
    if isinstance(value, str) and value.strip().startswith("-"):
        return -milliseconds(value.strip()[1:], name="interval bound")
    return milliseconds(value, name="interval bound", minimum=_ANY)


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinNode(Node):
    """The base of joins of two streams: `inputs` are the left and the right one."""

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How = How.INNER
    suffix: str = "_right"
    """Appended to the name of a right column that the left side has too."""

    @property
    def kind(self) -> str:
        return "join"

    @property
    def stateful(self) -> bool:
        return True

    def columns(self, schemas: tuple[pl.Schema | None, ...]) -> JoinColumns:
        """How both sides' columns go together."""
        return JoinColumns.of(self.left_on, self.right_on, self.how, self.suffix, schemas)

    def added(self) -> dict[str, pl.DataType]:
        """Columns of the result that come from neither side."""
        return {}

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        columns = self.columns(inputs)
        columns.check(inputs[0], inputs[1], f"{self.how} join")
        known = inputs[0] is not None and (inputs[1] is not None or self.how.left_only)
        return pl.Schema({**columns.schema(), **self.added()}) if known else None

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if Mode.CHANGELOG in inputs:
            raise PlanError(
                f"{self.describe()}: one of its inputs is a changelog, whose rows may be taken back; join without "
                "window= and within= (the result is then a changelog too)"
            )
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        """One answer for both inputs: a wanted column may come from either, with or without the suffix."""
        if wanted is None:
            return None
        plain = {name.removesuffix(self.suffix) for name in wanted}
        return wanted | plain | {*self.left_on, *self.right_on, TIMESTAMP, WATERMARK}

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.left_on

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return self.left_on, self.right_on

    def on_text(self) -> str:
        """The keys, for `explain()`."""
        pairs = zip(self.left_on, self.right_on, strict=True)
        return ", ".join(one if one == other else f"{one} = {other}" for one, other in pairs) or "everything"


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowJoinNode(JoinNode):
    """Joins rows of equal key in the same window, or in the same session of the rows of both sides."""

    window: AlignedWindow | SessionWindow
    lateness: int = 0

    def describe(self) -> str:
        return f"{self.how} window join on {self.on_text()}: {self.window.describe()} (vectorised)"

    def added(self) -> dict[str, pl.DataType]:
        return {"window_start": pl.Int64(), "window_end": pl.Int64()}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.join_session import SessionJoin
        from thalweg.streams.engine.join_session_limited import LimitedSessionJoin
        from thalweg.streams.engine.join_window import WindowJoin

        columns = self.columns(tuple(context.input_schemas))
        if isinstance(self.window, SessionWindow):
            gap, longest = self.window.gap, self.window.max_length
            if longest is not None:
                return LimitedSessionJoin(context.operator_id, columns, gap, longest)
            return SessionJoin(context.operator_id, columns, gap, self.lateness)
        return WindowJoin(context.operator_id, columns, self.window, self.lateness)


@dataclass(frozen=True, eq=False, kw_only=True)
class IntervalJoinNode(JoinNode):
    """Joins rows of equal key whose times are so far apart."""

    within: Interval
    lateness: int | None = None

    def describe(self) -> str:
        return f"{self.how} interval join on {self.on_text()}: {self.within.describe()} (vectorised)"

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.join_interval import IntervalJoin, Reach

        columns = self.columns(tuple(context.input_schemas))
        reach = Reach.of(self.within.lower, self.within.upper, self.lateness)
        return IntervalJoin(context.operator_id, columns, reach)


@dataclass(frozen=True, eq=False, kw_only=True)
class AsOfJoinNode(JoinNode):
    """Joins each left row with the newest right row of its key that is not after it."""

    tolerance: int | None = None
    """How old the right row may be, ms; None: any age."""
    lateness: int = 0
    changes: bool = field(default=False)
    """The right side is a changelog: a delete ends what was there."""

    def describe(self) -> str:
        age = "" if self.tolerance is None else f", at most {self.tolerance} ms old"
        return f"{self.how} as-of join on {self.on_text()}: the newest right row that is not after the left one{age}"

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("as-of join: its left input is a changelog, whose rows may be taken back")
        return Mode.APPEND

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.join_as_of import AsOfJoin

        columns = self.columns(tuple(context.input_schemas))
        return AsOfJoin(context.operator_id, columns, self.tolerance, self.lateness)
