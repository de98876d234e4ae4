"""Events of a rule as runs: neighbouring events of one fingerprint among which the rule's conditions do not change.

So a state that lasts costs Python work when it changes, not for every event, and events that no state is about cost
none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.alerts.evaluate import plain
from thalweg.streams.batch import TIMESTAMP, WATERMARK

MIN = -(2**62)
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Run:
    """A run of events: `holds` and `ends` say what the conditions are for all of them."""

    fingerprint: str
    group: int
    holds: bool
    ends: bool
    first: int
    """Event time of the first, ms."""
    last: int
    count: int
    watermark: int
    """The partition's watermark before the first event."""
    row: int
    latest_row: int
    event_of: Callable[[int], Mapping[str, Any]] = field(repr=False)

    @property
    def event(self) -> Mapping[str, Any]:
        """The first event."""
        return self.event_of(self.row)

    @property
    def latest(self) -> Mapping[str, Any]:
        """The last event."""
        return self.event_of(self.latest_row)


class Keyed:
    """The rows of a batch by their values of some columns.

    Attributes:
        codes: per row, which of the distinct values it has.
        values: the distinct values, as JSON has them.
        places: the code of each, by `key_of`.
    """

    def __init__(self, frame: pl.DataFrame, by: Sequence[str]) -> None:
        if not by:
            self.codes: Ints = np.zeros(frame.height, np.int64)
            self.values: list[dict[str, Any]] = [{}]
        else:
            keys = frame.select(by)
            distinct = keys.unique(maintain_order=True)
            coded = distinct.with_row_index("__code")
            joined = keys.join(coded, on=list(by), how="left", nulls_equal=True, maintain_order="left")
            self.codes = joined.get_column("__code").to_numpy().astype(np.int64)
            self.values = [plain(row) for row in distinct.to_dicts()]
        self.places = {key_of(values.values()): code for code, values in enumerate(self.values)}


def key_of(values: Any) -> tuple[str, ...]:
    """What tells the values of a fingerprint's columns apart."""
    return tuple(str(value) for value in values)


class Events:
    """A batch as rules that watch states look at it; what several of them need is made once.

    Args:
        groups: the key group of each row.
        event_of: a row as an event.
    """

    def __init__(self, frame: pl.DataFrame, groups: pl.Series, event_of: Callable[[int], Mapping[str, Any]]) -> None:
        self._frame = frame
        self._event_of = event_of
        self._events: dict[int, Mapping[str, Any]] = {}
        self._keyed: dict[tuple[str, ...], Keyed] = {}
        self.height = frame.height
        self.times: Ints = frame.get_column(TIMESTAMP).cast(pl.Int64).to_numpy()
        self.groups = groups.to_numpy()
        self.watermarks: Ints = np.full(frame.height, MIN)
        if WATERMARK in frame.columns:
            self.watermarks = frame.get_column(WATERMARK).cast(pl.Int64).fill_null(MIN).to_numpy()

    def keyed(self, by: Sequence[str]) -> Keyed:
        """Its rows by some columns."""
        columns = tuple(by)
        if columns not in self._keyed:
            self._keyed[columns] = Keyed(self._frame, columns)
        return self._keyed[columns]

    def event(self, row: int) -> Mapping[str, Any]:
        """A row as an event."""
        if row not in self._events:
            self._events[row] = self._event_of(row)
        return self._events[row]

    def flags(self, rows: Ints | None) -> Flags:
        """True at these rows."""
        found = np.zeros(self.height, np.bool_)
        if rows is not None:
            found[rows] = True
        return found


def runs(
    events: Events,
    keyed: Keyed,
    holds: Flags,
    ends: Flags,
    known: Mapping[int, int],
    fingerprint: Callable[[int], str],
    gap: int | None = None,
) -> Iterator[Run]:
    """The runs of a batch, in the order of their first rows.

    Args:
        holds, ends: the rule's conditions, row by row.
        known: codes of `keyed` with a state under way, and the time of their last event.
        fingerprint: of a code.
        gap: for rules of absence: only events for which the condition holds count, and a pause of `gap` ends a run.
    """
    concerned = np.zeros(len(keyed.values), np.bool_)
    concerned[keyed.codes[holds]] = True
    last = np.full(len(keyed.values), MIN)
    for code, time in known.items():
        concerned[code], last[code] = True, time
    rows = np.flatnonzero(concerned[keyed.codes] & holds if gap is not None else concerned[keyed.codes])
    rows = rows[np.argsort(keyed.codes[rows], kind="stable")]
    rows = rows[_not_older(keyed.codes[rows], events.times[rows], last)]
    if not len(rows):
        return
    codes, times = keyed.codes[rows], events.times[rows]
    changed = _differs(codes) | _differs(holds[rows]) | _differs(ends[rows])
    if gap is not None:
        changed[1:] |= np.diff(times) >= gap
    starts = np.flatnonzero(changed)
    stops = np.append(starts[1:], len(rows)) - 1
    for n in np.argsort(rows[starts], kind="stable").tolist():
        start, stop = int(starts[n]), int(stops[n])
        row = int(rows[start])
        yield Run(
            fingerprint(int(codes[start])), int(events.groups[row]), bool(holds[row]), bool(ends[row]),
            int(times[start]), int(times[stop]), stop - start + 1, int(events.watermarks[row]), row, int(rows[stop]),
            events.event,
        )  # fmt: skip


def _not_older(codes: Ints, times: Ints, last: Ints) -> Flags:
    """Events that are not older than one before them of the same code, nor than that code's last one before the batch.

    Rows are sorted by code. Times are ranked, so that a running maximum can begin anew with each code.
    """
    if not len(codes):
        return np.zeros(0, np.bool_)
    distinct, ranks = np.unique(times, return_inverse=True)
    lift = codes * len(distinct)
    newest = np.maximum.accumulate(ranks + lift) - lift
    before = np.full(len(codes), MIN)
    before[1:] = np.where(_differs(codes)[1:], MIN, distinct[newest[:-1]])
    found: Flags = times >= np.maximum(before, last[codes])
    return found


def _differs(values: npt.NDArray[Any]) -> Flags:
    """Whether each differs from the one before; the first does."""
    found = np.ones(len(values), np.bool_)
    found[1:] = values[1:] != values[:-1]
    return found
