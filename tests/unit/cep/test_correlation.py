"""Correlations against a plain search; several streams, splits, crashes, what the state holds, and what is refused."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import App, col
from thalweg.cep import AfterMatch, EventCorrelator
from thalweg.cep.correlate.operator import Correlate
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.batch import KEY_GROUP, OFFSET, PARTITION, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.testing import TestDriver

SCHEMA = {"ts": int, "user": str, "ip": str}
NAMES = ("a", "b", "c")

Event = tuple[int, str, str, str | None]
"""Time, stream, user, ip."""


def search(events: list[Event], settings: dict[str, Any], window: int = 100) -> list[tuple[str, list[Event]]]:
    """The correlations by the definition: after each event, the key's events in the window are looked through."""
    found, held = [], dict[str, list[Event]]()
    for event in events:
        mine = [e for e in held.get(event[2], []) if e[0] > event[0] - window][-settings.get("max_events", 1000) + 1 :]
        mine.append(event)
        held[event[2]] = mine
        count = settings.get("count", "streams")
        if count == "events":
            reached = len(mine)
        elif count == "values":
            reached = len({e[3] for e in mine} - {None})
        elif settings.get("ordered"):
            reached = _longest([NAMES.index(e[1]) for e in mine])
        else:
            reached = len({e[1] for e in mine})
        if reached >= settings["minimum_matches"]:
            found.append((event[2], list(mine)))
            if settings.get("after_match") != AfterMatch.NO_SKIP:
                held[event[2]] = []
    return found


def _longest(numbers: list[int]) -> int:
    """The longest strictly ascending subsequence, tried in full."""
    best = [0] * len(numbers)
    for i, n in enumerate(numbers):
        best[i] = 1 + max((best[j] for j in range(i) if numbers[j] < n), default=0)
    return max(best, default=0)


SETTINGS: list[dict[str, Any]] = [
    {"minimum_matches": 2},
    {"minimum_matches": 3},
    {"minimum_matches": 3, "ordered": True},
    {"minimum_matches": 2, "ordered": True, "after_match": AfterMatch.NO_SKIP},
    {"minimum_matches": 3, "count": "events"},
    {"minimum_matches": 2, "count": "events", "after_match": AfterMatch.NO_SKIP, "max_events": 3},
    {"minimum_matches": 3, "count": "values", "field": "ip"},
    {"minimum_matches": 2, "count": "values", "field": "ip", "after_match": AfterMatch.NO_SKIP},
]

drawn = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(NAMES),
        st.sampled_from(["x", "y"]),
        st.sampled_from([None, "1", "2", "3"]),
    ),
    max_size=25,
)


def frames(app: App, correlator: EventCorrelator, out_of_order: int = 0) -> Any:
    for name in NAMES:
        app.stream(name, schema=SCHEMA, timestamp="ts", watermark=out_of_order)
    return app.correlate(correlator)


@settings(max_examples=60, deadline=None)
@given(gaps=drawn, terms=st.sampled_from(SETTINGS), cut=st.integers(0, 25), shuffle=st.randoms())
def test_it_finds_what_the_definition_says(gaps: list[Any], terms: dict[str, Any], cut: int, shuffle: Any):
    time, events = 0, []
    for gap, name, user, ip in gaps:
        time += gap + 1  # no two at one time: then the order of streams would say which comes first
        events.append((time, name, user, ip))
    correlator = EventCorrelator(NAMES, "user", 100, **terms)
    found = frames(App("t"), correlator, out_of_order=10_000)
    driver = TestDriver(found)
    snapshots = []
    outputs = []
    for part in (events[:cut], events[cut:]):
        shuffled = list(part)
        shuffle.shuffle(shuffled)
        for t, name, user, ip in shuffled:
            driver.send([{"ts": t, "user": user, "ip": ip}], source=name)
        if part:
            driver.advance_watermark(part[-1][0])
        outputs.append(driver.output())
        snapshots.append(driver.snapshot())
        driver.restore(*snapshots)
    driver.end()
    outputs.append(driver.output())
    rows = [row for frame in outputs for row in frame.to_dicts()]
    expected = search(events, terms)
    assert [(row["user"], row["count"]) for row in rows] == [(user, len(mine)) for user, mine in expected]
    for row, (_, mine) in zip(rows, expected, strict=True):
        assert (row["window_start"], row["window_end"]) == (mine[0][0], mine[-1][0])
        assert row["streams"] == [name for name in NAMES if any(e[1] == name for e in mine)]
        assert [(p["time"], p["stream"]) for p in row["provenance"]] == [(e[0], e[1]) for e in mine]
        for name in NAMES:
            assert [(e["ts"], e["ip"]) for e in row["events"][name]] == [(e[0], e[3]) for e in mine if e[1] == name]
    assert all(account.closes for account in driver.accounts().values())


def test_batches_do_not_matter():
    events = [{"ts": n, "user": f"u{n * 7 % 5}", "ip": str(n % 4)} for n in range(200)]
    results = []
    for size in (1, 7, 1000):
        correlator = EventCorrelator(NAMES, "user", "20ms", 2)
        found = frames(App("t"), correlator)
        driver = TestDriver(found, batch_size=size)
        for start in range(0, 200, 50):
            for number, name in enumerate(NAMES):
                driver.send(events[start + number : start + 50 : 3], source=name)
        driver.end()
        results.append(driver.output())
    assert results[0].height > 10
    assert results[0].equals(results[1])
    assert results[0].equals(results[2])


def test_streams_may_call_the_key_differently_and_provenance_says_where_events_came_from():
    app = App("t")
    app.stream("logins", schema={"ts": int, "user": str}, timestamp="ts")
    payments = app.stream("payments", schema={"ts": int, "payer": str, "amount": int}, timestamp="ts")
    correlator = EventCorrelator(
        ["logins", "payments"], {"logins": "user", "payments": "payer"}, "1m", ordered=True, id="login-pay"
    )
    found = app.correlate(correlator, {"payments": payments.filter(col("amount") > 10)})
    driver = TestDriver(found)
    driver.send([{"ts": 1, "user": "x"}, {"ts": 2, "user": None}], source="logins")
    driver.send([{"ts": 3, "payer": "x", "amount": 5}, {"ts": 4, "payer": "x", "amount": 50}], source="payments")
    driver.end()
    [row] = driver.output().to_dicts()
    assert row == {
        "correlation": "login-pay",
        "user": "x",
        "window_start": 1,
        "window_end": 4,
        "count": 2,
        "streams": ["logins", "payments"],
        "events": {"logins": [{"ts": 1, "user": "x"}], "payments": [{"ts": 4, "payer": "x", "amount": 50}]},
        "provenance": [
            {"stream": "logins", "topic": "logins", "partition": 0, "offset": 0, "time": 1},
            {"stream": "payments", "topic": "payments", "partition": 0, "offset": 1, "time": 4},
        ],
    }
    assert found.schema is not None
    assert list(found.schema) == [*row]


def test_parts_of_one_stream():
    correlator = EventCorrelator(
        {"failed": lambda e: e.ip == "bad", "any": col("ts") > 0}, lambda e: e.user, "10ms", 3, count="events"
    )
    stream = App("t").stream("logins", schema=SCHEMA, timestamp="ts").correlate(correlator)
    driver = TestDriver(stream)
    events = [{"ts": 1, "user": "x", "ip": "bad"}, {"ts": 5, "user": "x", "ip": "ok"}]
    driver.send(events)
    driver.end()
    [row] = driver.output().to_dicts()
    assert row["user"] == "x"
    assert {name: len(found) for name, found in row["events"].items()} == {"failed": 1, "any": 2}
    assert correlator.replay(events)["count"].to_list() == [3]


def test_without_a_key_all_events_belong_together():
    correlator = EventCorrelator(["a", "b"], None, 10)
    app = App("t")
    for name in ("a", "b"):
        app.stream(name, schema=SCHEMA, timestamp="ts")
    driver = TestDriver(app.correlate(correlator))
    driver.send([{"ts": 1, "user": "x", "ip": None}], source="a")
    saved = driver.snapshot()
    driver.restore(saved)
    driver.send([{"ts": 2, "user": "y", "ip": None}], source="b")
    driver.end()
    assert driver.output()["count"].to_list() == [2]


def operator_of(terms: dict[str, Any], window: int = 1_000) -> Correlate:
    correlator = EventCorrelator(["a"], "user", window, **terms)
    return Correlate("c", correlator, [["user"]], ["a"], [pl.Schema({"user": pl.Int64(), "ts": pl.Int64()})])


def feed(operator: Correlate, users: list[int], time: int) -> list[pl.DataFrame]:
    frame = pl.DataFrame({"user": users, "ts": [time] * len(users)}).with_columns(
        pl.col("ts").alias(TIMESTAMP), pl.col("ts").alias(WATERMARK), pl.lit(0, pl.Int32).alias(PARTITION),
        pl.int_range(len(users)).alias(OFFSET),
    )  # fmt: skip
    return [b.frame for b in (*operator.on_batch(Batch(frame)), *operator.on_watermark(Watermark(time + 1, 0)))]


def test_what_has_passed_leaves_nothing_behind():
    operator = operator_of({"minimum_matches": 3, "count": "events"})
    names: set[str] = set()
    for second in range(40):
        feed(operator, list(range(second * 500, second * 500 + 500)), second * 100)
        delta = operator.snapshot()
        names -= set(delta.drops)
        names |= {name for name, _ in delta.puts}
    assert 4_500 <= len(operator.held) <= 5_500
    assert len([name for name in names if name.startswith("events")]) <= 12
    assert len(operator.held._time) <= 16_384
    assert len(operator.held._codes) <= 16_384
    list(operator.on_watermark(Watermark(100_000, 0)))
    feed(operator, list(range(3_000)), 200_000)
    list(operator.on_watermark(Watermark(300_000, 0)))
    assert len(operator.held) == 0
    assert operator.held.stores[0].rows <= 4_096
    delta = operator.snapshot()
    names = (names - set(delta.drops)) | {name for name, _ in delta.puts}
    assert names == {"clock"}


def test_key_groups_can_be_handed_over_apart_and_consumed_events_stay_consumed():
    terms = {"minimum_matches": 3, "count": "events"}
    first = operator_of(terms)
    feed(first, list(range(100)), 1)
    deltas = [first.snapshot()]
    feed(first, list(range(100)), 2)
    deltas.append(first.snapshot())
    assert sum(frame.height for frame in feed(first, list(range(50)), 3)) == 50
    deltas.append(first.snapshot())
    found = []
    for low, high in ((0, 50), (50, 128)):
        state: dict[str, list[pl.DataFrame]] = {}
        for delta in deltas:
            for name in delta.drops:
                state.pop(name, None)
            for name, frame in delta.puts:
                state.setdefault(name, []).append(frame.filter(pl.col(KEY_GROUP).is_between(low, high - 1)))
        second = operator_of(terms)
        second.restore(state)
        mine = {user for name, parts in state.items() if name.startswith("events") for f in parts for user in f["user"]}
        found += [user for frame in feed(second, sorted(mine), 4) for user in frame["user"]]
    assert sorted(found) == list(range(50, 100))


def test_a_key_holds_at_most_its_bound():
    operator = operator_of(
        {"minimum_matches": 5, "count": "events", "max_events": 5, "after_match": AfterMatch.NO_SKIP}
    )
    for time in range(20):
        feed(operator, [1], time)
    assert len(operator.held) == 5
    state = {name: [frame] for name, frame in operator.snapshot().puts}
    for time in range(20, 23):
        feed(operator, [1], time)
    for name, frame in operator.snapshot().puts:
        state.setdefault(name, []).append(frame)
    other = operator_of({"minimum_matches": 5, "count": "events", "max_events": 5})
    other.restore(state)
    assert len(other.held) == 5
    [found] = feed(other, [1], 23)
    assert found["window_start"].to_list() == [19]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"streams": []}, "needs streams"),
        ({"minimum_matches": 4}, "there are 3 streams"),
        ({"minimum_matches": 0}, "at least 1"),
        ({"count": "value"}, "use 'streams', 'events' or 'values'"),
        ({"count": "values"}, "go together"),
        ({"count": "events", "ordered": True}, "only streams have an order"),
        ({"correlation_key": {"a": "x"}}, "does not say what it is in 'b'"),
        ({"streams": ["a", "a"]}, "named twice"),
        ({"time_window": 0}, "at least 1 ms"),
        ({"after_match": AfterMatch.TO_NEXT}, "PAST_LAST or NO_SKIP"),
    ],
)
def test_what_can_not_work_is_refused(settings: dict[str, Any], says: str):
    fields: dict[str, Any] = {"streams": NAMES, "correlation_key": "user", "time_window": "1m", **settings}
    with pytest.raises(ConfigurationError, match=says):
        EventCorrelator(**fields)


def test_what_does_not_fit_the_streams_is_refused():
    app = App("t")
    a = app.stream("a", schema=SCHEMA, timestamp="ts")
    b = app.stream("b", schema={"ts": int, "user": int}, timestamp="ts")
    with pytest.raises(PlanError, match="no stream 'c'"):
        app.correlate(EventCorrelator(NAMES, "user", 5))
    with pytest.raises(PlanError, match="cast it first"):
        app.correlate(EventCorrelator(["a", "b"], "user", 5))
    with pytest.raises(PlanError, match="no column 'ip'"):
        app.correlate(EventCorrelator(["b"], "user", 5, count="values", field="ip"))
    with pytest.raises(PlanError, match=r"use app\.correlate"):
        a.correlate(EventCorrelator(["a", "b"], "user", 5))
    assert b.schema is not None


def test_what_it_holds_and_what_went_beyond_the_bound_is_counted():
    correlator = EventCorrelator(["a", "b"], "user", "1m", max_events=3, after_match=AfterMatch.NO_SKIP)
    assert correlator.stats() == {"events": 0, "events_dropped": 0, "keys": 0, "waiting": 0}
    app = App("stats")
    streams = {name: app.stream(name, schema=SCHEMA, timestamp="ts", watermark=0) for name in "ab"}
    driver = TestDriver(app.correlate(correlator, streams))
    driver.send([{"ts": n, "user": "x" if n < 8 else "y", "ip": ""} for n in range(10)], source="a")
    driver.send([{"ts": 9, "user": "z", "ip": ""}], source="b")
    assert correlator.stats() == {"events": 4, "events_dropped": 5, "keys": 2, "waiting": 2}
