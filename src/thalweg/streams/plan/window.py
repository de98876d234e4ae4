"""The plan node of a windowed aggregate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import Aggregate, AggregatePlan, to_aggregates
from thalweg.streams.batch import INGESTED, TIMESTAMP, WATERMARK
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.panes import PANE_COLUMNS, Panes
from thalweg.streams.windows import AlignedWindow, GlobalWindow, SessionWindow, TimeSemantics, Window

if TYPE_CHECKING:
    from thalweg.streams.engine.window_base import WindowOperator


@dataclass(frozen=True, eq=False)
class WindowAggregateNode(Node):
    """Aggregates per key and window.

    `WindowAggregateNode(inputs=(upstream,), window=…, keys=("user",), aggregates={"avg": average("value")})`.

    Output: the key columns, `window_start`, `window_end` (Int64, ms UTC), the aggregates by name, and `idle_closed`
    with `idle_flag`. A global window has no start and end, and its output is a changelog (`__op`). Late rows leave by
    port `LATE` as they came, with `__late_window_end` and `__lateness`.

    Args:
        window: a tumbling, sliding, session or global window.
        keys: the key columns; empty: one group for all.
        aggregates: result name → aggregate, or aggregating expression.
        time_semantics: which time places an event.
        panes: the trigger, allowed lateness and so on; None: one row per window, when the watermark passes its end.
        on_late: what becomes of rows that are too late: "dead-letter", "side" or "drop"; None: as the app says.
        idle_flag: adds the column `idle_closed`; for streams that set `close_idle_after`.

    Raises:
        ConfigurationError: not a window, no aggregate, a reserved or repeated result name.
    """

    window: Window = field(kw_only=True)
    keys: tuple[str, ...] = field(kw_only=True)
    aggregates: Mapping[str, object] = field(kw_only=True)
    time_semantics: TimeSemantics = field(default=TimeSemantics.EVENT_TIME, kw_only=True)
    panes: Panes | None = field(default=None, kw_only=True)
    on_late: str | None = field(default=None, kw_only=True)
    idle_flag: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.window, AlignedWindow | SessionWindow | GlobalWindow):
            raise ConfigurationError(f"{self.window!r} is not a window; use e.g. TumblingWindow('1m')")
        aggregates = to_aggregates(self.aggregates)
        both = sorted((set(aggregates) | {"window_start", "window_end"}) & set(self.keys))
        if both:
            raise ConfigurationError(f"{', '.join(both)}: a key column and a result column; rename one of them")
        if self.on_late not in (None, "dead-letter", "side", "drop"):
            raise ConfigurationError(f"on_late={self.on_late!r}; use 'dead-letter', 'side' or 'drop'")
        self._check_panes(aggregates)
        object.__setattr__(self, "aggregates", aggregates)
        object.__setattr__(self, "time_semantics", TimeSemantics(self.time_semantics))

    def _check_panes(self, aggregates: Mapping[str, object]) -> None:
        if self.panes is None:
            return
        taken = sorted(set(PANE_COLUMNS) & {*aggregates, *self.keys})
        if taken:
            raise ConfigurationError(f"{', '.join(taken)}: with a trigger the name is that of a result column")
        if isinstance(self.window, SessionWindow) and self.window.max_length is not None:
            raise ConfigurationError(
                "sessions with a max_length take no trigger and no allowed_lateness: their events wait for the"
                " watermark, in order of time; leave out one of the two"
            )

    @property
    def kind(self) -> str:
        return "window"

    @property
    def plan(self) -> AggregatePlan:
        """The aggregates, compiled."""
        aggregates: dict[str, Aggregate] = dict(self.aggregates)  # type: ignore[arg-type]
        return AggregatePlan(aggregates)

    def describe(self) -> str:
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        time = "" if self.time_semantics is TimeSemantics.EVENT_TIME else f", {self.time_semantics.value}"
        results = ", ".join(f"{name}={aggregate!r}" for name, aggregate in self.aggregates.items())
        panes = "" if self.panes is None else f", {self.panes.describe()}"
        return f"window {self.window.describe()}{by}{time}{panes}: {results} (vectorised)"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if not inputs or inputs[0] is None:
            return None
        missing = sorted((self.plan.columns | set(self.keys)) - set(inputs[0]) - {TIMESTAMP, INGESTED})
        if missing:
            raise ConfigurationError(f"window: no column {', '.join(missing)}; there are {', '.join(inputs[0])}")
        schema = {**inputs[0], TIMESTAMP: pl.Int64(), INGESTED: pl.Int64()}
        events = pl.DataFrame(schema=schema)
        group = list(self.keys) or [TIMESTAMP]
        plan = self.plan
        results = plan.finish(plan.prepare(events, group), group).schema
        ends = {} if isinstance(self.window, GlobalWindow) else {"window_start": pl.Int64(), "window_end": pl.Int64()}
        keys = {name: results[name] for name in self.keys}
        flag = {"idle_closed": pl.Boolean()} if self.idle_flag and ends else {}
        panes = dict(zip(PANE_COLUMNS, _PANE_TYPES, strict=True)) if self.panes else {}
        return pl.Schema({**keys, **ends, **{name: results[name] for name in self.aggregates}, **panes, **flag})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs and inputs[0] is Mode.CHANGELOG:
            raise ConfigurationError("window: its input is a changelog; windows take appends only")
        changes = isinstance(self.window, GlobalWindow) if self.panes is None else self.panes.changes
        return Mode.CHANGELOG if changes else Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        times = {INGESTED} if self.time_semantics is TimeSemantics.INGESTION_TIME else {TIMESTAMP, WATERMARK}
        return self.plan.columns | set(self.keys) | times

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        """The keys; of panes that take each other's place also the window: it tells the changelog's rows apart."""
        changing = self.panes is not None and self.panes.changes and self.panes.bounded
        return (*self.keys, "window_start", "window_end") if changing else self.keys

    @property
    def stateful(self) -> bool:
        return True

    def signature(self) -> dict[str, Any]:
        window, time = self.window.describe(), self.time_semantics.value
        panes = "none" if self.panes is None else self.panes.describe()
        return {"kind": self.kind, "window": window, "keys": list(self.keys), "time": time, "panes": panes}

    def build(self, context: OperatorContext) -> Operator:
        operator = self._triggered(context, self.panes) if self.panes else self._plain(context)
        operator.route_late(self.on_late)
        return operator

    def _plain(self, context: OperatorContext) -> WindowOperator:
        if isinstance(self.window, AlignedWindow):
            from thalweg.streams.engine.window_aligned import AlignedWindowOperator

            return AlignedWindowOperator(
                context.operator_id, self.window, self.keys, self.plan, self.time_semantics, idle_flag=self.idle_flag
            )
        if isinstance(self.window, SessionWindow):
            from thalweg.streams.engine.window_session import SessionWindowOperator

            return SessionWindowOperator(
                context.operator_id, self.window, self.keys, self.plan, self.time_semantics, idle_flag=self.idle_flag
            )
        from thalweg.streams.engine.window_global import GlobalWindowOperator

        return GlobalWindowOperator(context.operator_id, self.keys, self.plan, self.time_semantics)

    def _triggered(self, context: OperatorContext, panes: Panes) -> WindowOperator:
        from thalweg.streams.engine import window_triggered_kinds as kinds

        rest = (self.keys, self.plan, self.time_semantics, panes)
        if isinstance(self.window, SessionWindow):
            return kinds.TriggeredSessionOperator(
                context.operator_id, self.window, *rest, idle_flag=self.idle_flag and panes.bounded
            )
        assert isinstance(self.window, AlignedWindow | GlobalWindow)
        return kinds.TriggeredAlignedOperator(
            context.operator_id, self.window, *rest, idle_flag=self.idle_flag and panes.bounded
        )


_PANE_TYPES = (pl.Int64(), pl.Int64(), pl.String(), pl.Boolean())
