"""What a case may say: of a field that the runners do not know they tell, it is never passed over in silence.

The formats are those of the READMEs beside the data. Fields that only describe (`description`, `source`, `notes` and
so on) are listed too, so that a misspelt one is seen.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import msgspec
from msgspec import field

Record = dict[str, Any]
Names = str | list[str]


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a case; it has no other fields."""


class Column(Part):
    name: str
    type: Literal["int", "float", "decimal", "string", "timestamp", "bool"]


class Described(Part, kw_only=True):
    """What all cases of rows have in common."""

    case: str
    columns: list[Column]
    description: str = ""
    order_sensitive: bool = False
    verified_with: str | None = None
    source: str | None = None
    notes: str | None = None
    rows: list[list[Any]] | None = None


# -- windows, joins, updates


class Input(Part, kw_only=True):
    stream: str
    time_column: str | None = None
    lateness_ms: int = 0
    file: str | None = None
    records: list[Record] | None = None
    format: Literal["change"] | None = None
    key: Names | None = None


class Aligned(Part, tag_field="kind", tag="tumbling"):
    size_ms: int
    offset_ms: int = 0


class Hopping(Part, tag_field="kind", tag="hopping"):
    size_ms: int
    slide_ms: int
    offset_ms: int = 0


class Session(Part, tag_field="kind", tag="session"):
    gap_ms: int
    max_ms: int | None = None


Window = Aligned | Hopping | Session


class Aggregate(Part, kw_only=True):
    out: str
    fn: str
    of: Names | None = None


class Join(Part, kw_only=True):
    kind: Literal["inner", "left", "right", "full", "semi", "anti"]
    on: str
    bound: str | None = None
    lower_ms: int | None = None
    lower_inclusive: bool = True
    upper_ms: int | None = None
    upper_inclusive: bool = True


class Send(Part):
    stream: str
    records: list[Record]


class Step(Part, kw_only=True):
    send: Send | None = None
    expect: list[list[Any]] | None = None
    only_time: str | None = None


class WindowCase(Described, kw_only=True):
    inputs: list[Input]
    emission: Literal["final", "final_state", "watermark_only", "closed_per_key", "steps"]
    features: list[str] = []
    window: Window | None = None
    windows: list[Window] | None = None
    keys: list[str] | None = None
    aggregates: list[Aggregate] | None = None
    join: Join | None = None
    steps: list[Step] | None = None
    filter: str | None = None
    having: str | None = None


# -- triggers


class Tumbling(Part, tag_field="kind", tag="tumbling"):
    size: int
    offset: int = 0


class Sliding(Part, tag_field="kind", tag="sliding"):
    size: int
    slide: int
    offset: int = 0


class Sessions(Part, tag_field="kind", tag="session"):
    gap: int


class Global(Part, tag_field="kind", tag="global"):
    pass


class Default(Part, tag_field="kind", tag="default"):
    pass


class AfterCount(Part, tag_field="kind", tag="after_count"):
    count: int


class AfterProcessingTime(Part, tag_field="kind", tag="after_processing_time"):
    delay: int


class AfterWatermark(Part, tag_field="kind", tag="after_watermark"):
    early: Trigger | None = None
    late: Trigger | None = None


class Repeatedly(Part, tag_field="kind", tag="repeatedly"):
    of: Trigger | list[Trigger]


class AfterAny(Part, tag_field="kind", tag="after_any"):
    of: list[Trigger]


class AfterAll(Part, tag_field="kind", tag="after_all"):
    of: list[Trigger]


class AfterEach(Part, tag_field="kind", tag="after_each"):
    of: list[Trigger]


Trigger = Default | AfterCount | AfterProcessingTime | AfterWatermark | Repeatedly | AfterAny | AfterAll | AfterEach


class Element(Part):
    time: int
    value: Any


class Pane(Part, kw_only=True):
    window: list[int] | None = None
    values: list[Any] | None = None
    timestamp: int | None = None
    timing: Literal["early", "on_time", "late"] | None = None
    timing_not: Literal["early", "on_time", "late"] | None = None
    index: int | None = None
    nonspeculative_index: int | None = None
    final: bool | None = None


class Moment(Part, kw_only=True):
    input: list[Element] | None = None
    watermark: int | Literal["max"] | None = None
    processing_time: int | None = None
    expect: list[Pane] | None = None


class WindowPanes(Part):
    window: list[int]
    panes: list[list[Any]]


class TriggerCase(Part, kw_only=True):
    case: str
    window: Tumbling | Sliding | Sessions | Global
    trigger: Trigger
    timeline: list[Moment]
    accumulation: Literal["accumulating", "discarding"] = "accumulating"
    allowed_lateness: int | None = 0
    pane_time: Literal["end_of_window", "earliest", "latest"] = "end_of_window"
    expected_panes: list[WindowPanes] | None = None
    batch_sizes: list[int] | None = None
    description: str = ""
    verified_with: str | None = None
    source: str | None = None
    notes: str | None = None


# -- patterns


class Condition(Part, kw_only=True):
    field_: str | None = field(name="field", default=None)
    op: Literal["==", "!=", "<", "<=", ">", ">=", "startswith", "contains", "endswith"] | None = None
    value: Any = None
    all: list[Condition] | None = None
    any: list[Condition] | None = None
    not_: Condition | None = field(name="not", default=None)
    subtype: str | None = None
    true: bool | None = None
    iterative: str | None = None


class Quantifier(Part):
    min: int
    max: int | None


class Group(Part):
    steps: list[PatternStep]


class PatternStep(Part, kw_only=True):
    name: str
    contiguity: Literal["begin", "next", "followed_by", "followed_by_any", "not_next", "not_followed_by"]
    quantifier: Quantifier
    optional: bool
    greedy: bool
    inner: Literal["relaxed", "strict", "any"]
    until: Condition | None = None
    condition: Condition | None = None
    group: Group | None = None
    window_ms: None = None


class Skip(Part, kw_only=True):
    strategy: Literal["no_skip", "skip_to_next", "skip_past_last", "skip_to_first", "skip_to_last"]
    to: str | None = None
    throw_if_missing: bool = False


class PatternOf(Part, kw_only=True):
    steps: list[PatternStep]
    within_ms: int | None
    skip: Skip


class Event(Part, kw_only=True):
    ts: int
    id: int
    name: str
    price: float | None
    type: Literal["Event", "SubEvent"]
    volume: float | None = None


class PatternCase(Part, kw_only=True):
    id: str
    events: list[Event]
    pattern: PatternOf
    source: str | None = None
    notes: Names | None = None
    expected: list[list[int]] | None = None
    expected_labels: list[dict[str, list[int]]] | None = None
    expected_origin: str | None = None
    raises: Any = None
    timeouts: list[list[int]] | None = None
    timeout_details: list[dict[str, Any]] | None = None
    open_partials_at_end: int | None = None
    advance_to_ms: int | None = None


class UnknownPart(UserWarning):
    """A case says what the runners do not know."""


def known(case: dict[str, Any], kind: type[Part]) -> None:
    """Warns of a case that says what the runners do not know, and where (`UnknownPart`): its answer may miss that.

    It runs all the same: structured fields repeat the description, and a field more may only describe. What the runners
    can't do without knowing it they refuse themselves.
    """
    try:
        msgspec.convert(case, kind)
    except msgspec.ValidationError as error:
        warnings.warn(f"{case.get('case', case.get('id'))}: {error}", UnknownPart, stacklevel=3)
