"""Patterns, state machines and correlations move between workers: one, three, then two give what one alone gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.cep import AfterMatch, EventCorrelator, PatternBuilder, State, StateMachine, Transition
from thalweg.cep.correlate.operator import Correlate
from thalweg.cep.machine.compiled import CompiledMachine
from thalweg.cep.machine.operator import Track
from thalweg.cep.sequence.conditions import Conditions
from thalweg.cep.sequence.operator import Detect
from thalweg.streams.batch import KEY_GROUP, OFFSET, PARTITION, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.operator import Operator, StateDelta
from thalweg.streams.state.key_groups import key_groups

SCHEMA = pl.Schema({"user": pl.String(), "type": pl.String(), "ts": pl.Int64(), "n": pl.Int64()})
USERS = [f"user-{n}" for n in range(12)]
DELAY = 20
"""How far the watermark is behind: so much waits at every moment."""

State_ = dict[str, list[pl.DataFrame]]


def kind(letter: str) -> pl.Expr:
    return pl.col("type") == letter


def patterns() -> Operator:
    line = PatternBuilder.create("line").where("a", kind("a")).followed_by("b", kind("b")).within(60).build()
    loop = PatternBuilder.create("loop").where("a", kind("a")).one_or_more().followed_by("c", kind("c"))
    absent = PatternBuilder.create("absent").where("b", kind("b")).not_followed_by("c", kind("c")).within(30).build()
    rising = PatternBuilder.create("rising").where("x", lambda e, m: m.count("x") == 0 or e.n > m.last("x").n).times(3)
    found = [line, loop.within(80).skip(AfterMatch.NO_SKIP).build(), absent, rising.within(70).build()]
    return Detect("detect", found, ["user"], Conditions(found, SCHEMA))


def machine() -> Operator:
    made = StateMachine(
        id="m",
        initial="out",
        key="user",
        states={"out": State(), "in": State(timeout=25, on_timeout="lost"), "paid": State(final=True),
                "lost": State(error=True)},
        transitions=[
            Transition("out", "in", trigger="a"),
            Transition("in", "in", trigger="b", guard=lambda e, i: i.visits("in") < 3),
            Transition("in", "paid", trigger="c", guard=kind("c") & (pl.col("n") > 3)),
        ],
        history=3,
    )  # fmt: skip
    return Track("track", CompiledMachine(made, SCHEMA), ["user"], (), SCHEMA)


def correlation() -> Operator:
    correlator = EventCorrelator(["one", "two"], "user", 40, 3, count="events", id="both")
    return Correlate("correlate", correlator, [["user"], ["user"]], (), [SCHEMA, SCHEMA])


class Worker:
    """One operator and what it has told."""

    def __init__(self, operator: Operator, state: State_ | None = None) -> None:
        self.operator = operator
        self.log: State_ = {}
        self.told: list[tuple[str, str]] = []
        if state is not None:
            operator.restore(state)
            self.keep(operator.snapshot(full=True))

    def send(self, rows: pl.DataFrame, watermark: int) -> None:
        if rows.height:
            for port, part in enumerate((rows,) if not isinstance(self.operator, Correlate) else halves(rows)):
                self.hear(list(self.operator.on_batch(Batch(part), port)) if part.height else [])
        self.hear(list(self.operator.on_watermark(Watermark(watermark, watermark))))
        self.keep(self.operator.snapshot())

    def hear(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            shown = batch.frame.drop("provenance", OFFSET, PARTITION, strict=False)
            self.told += [(batch.port, str(row)) for row in shown.rows()]

    def keep(self, delta: StateDelta) -> None:
        """What a store of the engine has of the deltas."""
        if delta.full:
            self.log.clear()
        for name in delta.drops:
            self.log.pop(name, None)
        for name, frame in delta.puts:
            self.log.setdefault(name, []).append(frame)


def halves(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    odd = rows.get_column("n") % 2 == 1
    return rows.filter(odd), rows.filter(~odd)


def handed_over(workers: Sequence[Worker], groups: range) -> State_:
    """The state of some key groups, out of what all workers left."""
    state: State_ = {}
    for worker in workers:
        for name, frames in worker.log.items():
            kept = [frame.filter(pl.col(KEY_GROUP).is_in(list(groups))) for frame in frames]
            state.setdefault(name, []).extend(frame for frame in kept if frame.height)
    return {name: frames for name, frames in state.items() if frames}


def feed(workers: Sequence[Worker], shares: Sequence[range], rows: pl.DataFrame, size: int) -> None:
    """Batch by batch, to each worker the rows of its key groups; the watermark is the same for all."""
    for start in range(0, rows.height, size):
        batch = rows[start : start + size]
        groups = key_groups(batch, ["user"])
        for worker, share in zip(workers, shares, strict=True):
            worker.send(batch.filter(groups.is_in(list(share))), int(batch["ts"].max()) - DELAY)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [patterns, machine, correlation])
@settings(max_examples=12, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from(USERS), st.sampled_from("abcz"), st.integers(0, 8), st.integers(0, 5)),
        min_size=30,
        max_size=90,
    ),
    size=st.integers(1, 20),
)
def test_one_worker_then_three_then_two_give_what_one_gives(
    make: Callable[[], Operator], events: list[tuple[str, str, int, int]], size: int
):
    times = pl.Series([step for *_, step in events]).cum_sum()
    rows = pl.DataFrame([(user, letter, 0, n) for user, letter, n, _ in events], schema=SCHEMA, orient="row")
    offset = pl.int_range(rows.height, dtype=pl.Int64, eager=True)
    rows = rows.with_columns(
        times.alias("ts"), times.alias(TIMESTAMP), (times - DELAY).alias(WATERMARK), offset.alias(OFFSET),
        pl.lit(0, pl.Int32).alias(PARTITION),
    )  # fmt: skip
    everything, end = range(128), 10_000
    alone = Worker(make())
    feed([alone], [everything], rows, size)
    alone.send(rows[:0], end)

    third = rows.height // 3
    one = Worker(make())
    feed([one], [everything], rows[:third], size)
    shares = [range(50), range(50, 90), range(90, 128)]
    three = [Worker(make(), handed_over([one], share)) for share in shares]
    feed(three, shares, rows[third : 2 * third], size)
    halved = [range(70), range(70, 128)]
    two = [Worker(make(), handed_over(three, share)) for share in halved]
    feed(two, halved, rows[2 * third :], size)
    for worker in two:
        worker.send(rows[:0], end)
    told = [said for worker in (one, *three, *two) for said in worker.told]
    assert sorted(told) == sorted(alone.told)
