"""`map_async`: an async function for every row, while the engine goes on.

Rows whose call is under way are state: a commit saves them with the outputs of those that are done, so after a crash
each row's result is put out once (and its call made at least once). They hold the watermark back, so that no result is
late because of the service. Cost per row: one task of the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from thalweg.errors import OperatorFailed
from thalweg.expressions import iter_rows
from thalweg.streams.batch import DEAD, KEY_GROUP, MAIN, MIN_TIME, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.engine.outputs import topics_of
from thalweg.streams.operator import Memory, Operator, OperatorContext, State, StateDelta
from thalweg.streams.process.results import Emitted, Results, records_of
from thalweg.streams.service.calls import Calls
from thalweg.streams.state.key_groups import key_groups

if TYPE_CHECKING:
    from thalweg.streams.service.node import MapAsyncNode

_CALLS = "calls"


@dataclass(slots=True)
class _Call:
    """A row whose result is not out yet."""

    frame: pl.DataFrame
    row: int
    ended: bool = False
    result: Any = None
    error: BaseException | None = None


class MapAsync(Operator):
    """Calls the function with every row, `concurrency` at a time."""

    def __init__(self, operator_id: str, node: MapAsyncNode, context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.node = node
        self.keys = cast("Sequence[str]", context.options.get("key_columns", ()))
        self.topics = topics_of(context)
        wake = context.options.get("wake")
        done = wake.set if isinstance(wake, threading.Event) else _nobody
        timeout = None if node.timeout is None else node.timeout / 1000
        self._calls = Calls(node.function, node.concurrency, timeout, done)
        self._results = Results(list(self.keys), {} if node.schema is None else {MAIN: node.schema})
        self._open: dict[int, _Call] = {}
        """By number, in order of arrival."""
        self._next = 0
        self._marks: list[tuple[int, int]] = []
        """A heap of (watermark before the row, number); what is no longer open is skipped."""
        self._changed = False

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        self._begin(batch.frame)
        yield from self._put_out()

    def on_watermark(self, watermark: Watermark) -> Iterable[Batch]:
        return self._put_out()

    def output_watermark(self, watermark: Watermark) -> Watermark:
        """Not past what was known before the oldest row whose result is not out."""
        while self._marks and self._marks[0][1] not in self._open:
            heappop(self._marks)
        if not self._marks or self._marks[0][0] >= watermark.event_time:
            return watermark
        return replace(watermark, event_time=self._marks[0][0])

    def under_way(self) -> int:
        return len(self._open)

    def congested(self) -> bool:
        return len(self._open) >= self.node.capacity

    def _begin(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        self._changed = True
        self._results.know_keys(frame)
        own = WATERMARK if WATERMARK in frame.columns else TIMESTAMP
        marks = frame[own].to_list() if own in frame.columns else [MIN_TIME] * frame.height
        calls = []
        for row, (argument, mark) in enumerate(zip(iter_rows(frame, self.keys), marks, strict=True)):
            self._open[self._next] = _Call(frame, row)
            heappush(self._marks, (mark, self._next))
            calls.append((self._next, argument))
            self._next += 1
        self._calls.submit(calls)

    def _put_out(self) -> Iterator[Batch]:
        ended = []
        for number, result, error in self._calls.take():
            call = self._open[number]
            call.ended, call.result, call.error = True, result, error
            ended.append(number)
        if ended:
            self._changed = True
            yield from self._emit([self._open.pop(number) for number in self._ready(ended)])

    def _ready(self, ended: Sequence[int]) -> list[int]:
        if not self.node.ordered:
            return list(ended)
        ready = []
        for number, call in self._open.items():
            if not call.ended:
                break
            ready.append(number)
        return ready

    def _emit(self, calls: Sequence[_Call]) -> Iterator[Batch]:
        start = 0
        for end in range(1, len(calls) + 1):
            if end == len(calls) or calls[end].frame is not calls[start].frame:
                yield from self._emit_of(calls[start].frame, calls[start:end])
                start = end

    def _emit_of(self, frame: pl.DataFrame, calls: Sequence[_Call]) -> Iterator[Batch]:
        """The results of calls for rows of one batch."""
        emitted: list[Emitted] = []
        errors: list[RowError] = []
        for call in calls:
            try:
                if call.error is not None:
                    raise call.error
                keys = dict(zip(self.keys, frame.select(self.keys).row(call.row), strict=True)) if self.keys else {}
                emitted += [Emitted(MAIN, {**record, **keys}, call.row, None) for record in records_of(call.result)]
            except Exception as error:
                if self.node.on_error == "stop":
                    raise OperatorFailed(self.id, error) from error
                errors.append(row_error(call.row, error))
        batches, misfits = self._results.frames(emitted, frame, self.clock)
        errors += [(item.row, *error[1:]) for item, error in misfits]
        self._book(len(calls), len({item.row for item in emitted} - {row for row, *_ in errors}), len(errors))
        yield from batches
        if errors:
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)

    def _book(self, ended: int, passed: int, dead: int) -> None:
        self.account.absorbed -= ended
        self.account.passed += passed
        self.account.dead += dead
        self.account.filtered += ended - passed - dead

    def snapshot(self, *, full: bool = False) -> StateDelta:
        """The rows whose results are not out, all of them each time: there are not many."""
        if not (self._changed or full):
            return StateDelta()
        self._changed = False
        frame = self._rows()
        puts = [] if frame is None else [(_CALLS, frame.with_columns(key_groups(frame, self.keys)))]
        return StateDelta(drops=() if full else (_CALLS,), puts=puts, full=full)

    def _rows(self) -> pl.DataFrame | None:
        rows: dict[int, tuple[pl.DataFrame, list[int]]] = {}
        for call in self._open.values():
            rows.setdefault(id(call.frame), (call.frame, []))[1].append(call.row)
        return pl.concat([f[numbers] for f, numbers in rows.values()], how="diagonal_relaxed") if rows else None

    def restore(self, state: State) -> None:
        for frame in state.get(_CALLS, ()):
            self.account.received += frame.height
            self.account.absorbed += frame.height
            self._begin(frame.drop(KEY_GROUP))

    def memory(self) -> Memory:
        frames = {id(call.frame): call.frame for call in self._open.values()}
        return Memory(len(self._open), sum(int(frame.estimated_size()) for frame in frames.values()))

    def close(self) -> None:
        self._calls.close()


def _nobody() -> None:
    """Nobody waits for results: the test driver looks for them itself."""
