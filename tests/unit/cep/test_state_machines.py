"""State machines against a plain reading of their definition; splits, crashes, actions, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import App
from thalweg.cep import State, StateMachine, Transition
from thalweg.cep.actions import Retry
from thalweg.cep.machine import PREVIOUS, Instance
from thalweg.cep.machine.compiled import CompiledMachine
from thalweg.cep.machine.operator import Track
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import TimeSemantics
from thalweg.streams.batch import KEY_GROUP, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.testing import TestDriver

SCHEMA = {"ts": int, "order_id": int, "type": str, "amount": int}


def order(**settings: Any) -> StateMachine:
    fields: dict[str, Any] = {
        "states": {
            "pending": State(),
            "processing": State(timeout=100, on_timeout="expired"),
            "held": State(timeout=50, on_timeout="processing"),
            "completed": State(final=True),
            "expired": State(error=True),
        },
        "transitions": [
            Transition("pending", "processing", trigger="start", guard=lambda e: e.amount > 10),
            Transition("pending", "held", trigger="start"),
            Transition("processing", "completed", trigger="finish"),
            Transition("*", "held", trigger=pl.col("amount") < 0, name="negative"),
            Transition("held", PREVIOUS, trigger="resume"),
            Transition(
                "held", "completed", trigger="finish", guard=lambda e, i: i.visits("held") >= 2 and e.amount > 0
            ),
        ],
        **settings,
    }
    return StateMachine(id="order", initial="pending", key="order_id", **fields)


class Reference:
    """The same machine, read off its definition: one event after the other, in plain Python."""

    def __init__(self, remember: int = 0) -> None:
        self.remember = remember
        self.live: dict[int, dict[str, Any]] = {}
        self.changes: list[tuple[Any, ...]] = []
        self.invalid: list[tuple[Any, ...]] = []

    def to(self, key: int, state: str, time: int, trigger: str) -> None:
        one = self.live[key]
        one["step"] += 1
        self.changes.append((key, one["state"], state, trigger, one["since"], time, one["step"]))
        one.update(previous=one["state"], state=state, since=time)
        one["visits"][state] = one["visits"].get(state, 0) + 1
        if state in ("completed", "expired") and not self.remember:
            del self.live[key]

    def deadline(self, one: dict[str, Any]) -> int | None:
        wait = {"processing": 100, "held": 50}.get(one["state"])
        if one["state"] in ("completed", "expired"):
            wait = self.remember
        return None if wait is None else one["since"] + wait

    def run_out(self, until: int) -> None:
        while True:
            due = [(d, key) for key, one in self.live.items() if (d := self.deadline(one)) is not None and d <= until]
            if not due:
                return
            time, key = min(due)
            state = self.live[key]["state"]
            if state in ("completed", "expired"):
                del self.live[key]
            else:
                self.to(key, {"processing": "expired", "held": "processing"}[state], time, "timeout")

    def event(self, key: int, time: int, kind: str, amount: int) -> None:
        self.run_out(time)
        if kind not in ("start", "finish", "resume") and amount >= 0:
            return None
        known = key in self.live
        one = self.live.setdefault(key, {"state": "pending", "since": time, "step": 0, "previous": None, "visits": {}})
        state, refused = one["state"], False
        if state == "pending" and kind == "start":
            return self.to(key, "processing" if amount > 10 else "held", time, "start")
        if state == "processing" and kind == "finish":
            return self.to(key, "completed", time, "finish")
        if state in ("pending", "processing", "held") and amount < 0:
            return self.to(key, "held", time, "negative")
        if state == "held" and kind == "resume":
            return self.to(key, one["previous"], time, "resume")
        if state == "held" and kind == "finish":
            if one["visits"].get("held", 0) >= 2 and amount > 0:
                return self.to(key, "completed", time, "finish")
            refused = True
        reason = "ended" if state in ("completed", "expired") else "guard refused" if refused else "no transition"
        self.invalid.append((key, time, kind, state, reason))
        if not known:
            del self.live[key]
        return None


events = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 60),
        st.sampled_from(["start", "finish", "resume", "other"]),
        st.integers(-3, 20),
    ),
    max_size=30,
)
CHANGES = ("order_id", "from_state", "to_state", "trigger", "since", "at", "step")


@settings(max_examples=40, deadline=None)
@given(drawn=events, size=st.sampled_from([1, 3, 1000]), cut=st.integers(0, 30), remember=st.sampled_from([0, 70]))
def test_it_does_what_its_definition_says(drawn: list[Any], size: int, cut: int, remember: int):
    reference, time = Reference(remember), 0
    rows = []
    for key, gap, kind, amount in drawn:
        time += gap
        rows.append({"ts": time, "order_id": key, "type": kind, "amount": amount})
        reference.event(key, time, kind, amount)
    reference.run_out(time + 1_000)
    machine = order(remember_final=remember or None)
    stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts", watermark=30).track(machine)
    driver = TestDriver(stream, stream.port("invalid"), batch_size=size)
    snapshots = []
    for part in (rows[:cut], rows[cut:]):
        driver.send(part)
        snapshots.append(driver.snapshot())
        driver.restore(*snapshots)
    driver.advance_watermark(time + 1_000)
    changes, invalid = driver.output(stream), driver.output(stream.port("invalid"))
    found = changes.select(CHANGES).rows() if changes.height else []
    assert sorted(found, key=lambda c: c[5]) == found
    assert sorted(found, key=repr) == sorted(reference.changes, key=repr)
    bad = invalid.select("order_id", "ts", "type", "state", "reason").rows() if invalid.height else []
    assert bad == reference.invalid
    assert all(account.closes for account in driver.accounts().values())


def test_the_order_of_changes_does_not_depend_on_batches():
    rows = [{"ts": n // 3, "order_id": n * 7 % 5, "type": ["start", "finish"][n % 2], "amount": 20} for n in range(60)]
    outputs = []
    for size in (1, 7, None):
        stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts").track(order(history=2))
        driver = TestDriver(stream, batch_size=size)
        driver.send(rows)
        driver.end()
        outputs.append(driver.output())
    assert outputs[0].height > 20
    assert outputs[0].equals(outputs[1])
    assert outputs[0].equals(outputs[2])


def test_results_say_what_happened():
    machine = order(history=3)
    replay = machine.replay(
        [
            {"ts": 1, "order_id": 1, "type": "start", "amount": 20},
            {"ts": 5, "order_id": 1, "type": "note", "amount": -1},
            {"ts": 200, "order_id": 2, "type": "finish", "amount": 5},
        ]
    )
    assert replay.changes.select("from_state", "to_state", "status", "trigger", "path", "step").rows() == [
        ("pending", "processing", "active", "start", ["pending"], 1),
        ("processing", "held", "active", "negative", ["pending", "processing"], 2),
        ("held", "processing", "active", "timeout", ["pending", "processing", "held"], 3),
        ("processing", "expired", "error", "timeout", ["processing", "held", "processing"], 4),
    ]
    assert replay.changes["event"].to_list()[2] is None
    assert replay.changes["event"].to_list()[1] == {"ts": 5, "order_id": 1, "type": "note", "amount": -1}
    assert replay.invalid.select("order_id", "state", "reason").rows() == [(2, "pending", "no transition")]
    assert replay.open.height == 0


def test_an_initial_state_with_a_timeout_waits_from_the_first_event():
    machine = StateMachine(
        "m", "new", {"new": State(timeout=10, on_timeout="lost"), "ok": State(final=True), "lost": State(error=True)},
        [Transition("new", "ok", trigger="go", guard=pl.col("n") > 0)], key="k",
    )  # fmt: skip
    replay = machine.replay([{"ts": 0, "k": 1, "type": "go", "n": 0}, {"ts": 10, "k": 1, "type": "go", "n": 1}])
    assert replay.changes.select("to_state", "at").rows() == [("lost", 10), ("ok", 10)]
    assert replay.invalid["reason"].to_list() == ["guard refused"]


def test_processing_time_moves_at_once_and_times_out_by_the_clock():
    machine = order(time_semantics=TimeSemantics.PROCESSING_TIME)
    stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts", watermark=1_000_000).track(machine)
    driver = TestDriver(stream, clock=1_000, batch_size=1)
    driver.send([{"ts": 900, "order_id": 1, "type": "start", "amount": 20}])
    assert driver.output().select("to_state", "at").rows() == [("processing", 1_000)]
    saved = driver.snapshot()
    driver.restore(saved)
    driver.advance_clock(1_099)
    assert driver.output().height == 0
    driver.advance_clock(1_100)
    assert driver.output().select("to_state", "at").rows() == [("expired", 1_100)]


def test_late_events_leave_by_the_late_port():
    stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts").track(order())
    driver = TestDriver(stream)
    driver.send([{"ts": 100, "order_id": 1, "type": "start", "amount": 20}])
    driver.send([{"ts": 50, "order_id": 2, "type": "start", "amount": 20}])
    assert driver.late()["order_id"].to_list() == [2]


def test_actions_are_called_in_order_and_failures_become_dead_letters():
    seen: list[str] = []
    tries: list[int] = []

    async def entered(change: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"in {change.to_state} {change.key}")

    def fails(change: Any) -> None:
        tries.append(change.at)
        raise RuntimeError("no connection")

    machine = StateMachine(
        "m", "a",
        {"a": State(on_exit=lambda c: seen.append(f"out {c.from_state}")), "b": State(on_entry=entered, on_exit=fails),
         "c": State(final=True)},
        [Transition("a", "b", trigger="x", action=lambda c: seen.append(f"do {c.trigger} {c.event.order_id}")),
         Transition("b", "c", trigger="y")],
        key="order_id", retry=Retry(attempts=2, delay=1),
    )  # fmt: skip
    stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts").track(machine)
    driver = TestDriver(stream)
    driver.send(
        [{"ts": 1, "order_id": 7, "type": "x", "amount": 0}, {"ts": 2, "order_id": 7, "type": "y", "amount": 0}]
    )
    driver.end()
    assert seen[0] == "out a" or seen[0] == "in b 7"  # async actions run beside the others
    assert sorted(seen) == ["do x 7", "in b 7", "out a"]
    assert [s for s in seen if not s.startswith("in")] == ["out a", "do x 7"]
    assert tries == [2, 2]
    letters = driver.dead_letters()
    assert letters["error_class"].to_list() == ["ActionFailed"]
    assert "no connection" in letters["error_message"][0]
    assert driver.output()["to_state"].to_list() == ["b", "c"]


def test_a_condition_that_raises_makes_a_dead_letter_and_a_guard_on_the_instance_an_invalid_trigger():
    def bad(event: Any) -> bool:
        return {"a": True}[event.type]

    def judge(event: Any, instance: Instance) -> bool:
        return instance.visits("nowhere") > 0

    machine = StateMachine(
        "m", "a", {"a": State(), "b": State(final=True)},
        [Transition("a", "b", trigger=bad), Transition("a", "b", trigger="start", guard=judge)], key="order_id",
    )  # fmt: skip
    stream = App("t").stream("orders", schema=SCHEMA, timestamp="ts").track(machine)
    driver = TestDriver(stream, stream.port("invalid"))
    driver.send([{"ts": 1, "order_id": 1, "type": "start", "amount": 0}])
    assert driver.dead_letters()["error_class"].to_list() == ["KeyError"]
    replay = StateMachine(
        "m", "a", {"a": State(), "b": State(final=True)}, [Transition("a", "b", trigger="start", guard=judge)],
        key="order_id",
    ).replay([{"ts": 1, "order_id": 1, "type": "start", "amount": 0}])  # fmt: skip
    assert "guard raised KeyError" in replay.invalid["reason"][0]


def track_of(machine: StateMachine) -> Track:
    schema = pl.Schema({"ts": pl.Int64(), "order_id": pl.Int64(), "type": pl.String(), "amount": pl.Int64()})
    return Track("track", CompiledMachine(machine, schema), ["order_id"], (), schema)


def feed(operator: Track, rows: list[tuple[int, int, str]]) -> list[pl.DataFrame]:
    frame = pl.DataFrame([{"ts": t, "order_id": k, "type": kind, "amount": 20} for t, k, kind in rows]).with_columns(
        pl.col("ts").alias(TIMESTAMP), pl.col("ts").alias(WATERMARK)
    )
    found = list(operator.on_batch(Batch(frame)))
    return [b.frame for b in (*found, *operator.on_watermark(Watermark(rows[-1][0] + 1, 0)))]


def test_ended_instances_leave_the_state_and_key_groups_can_be_handed_over_apart():
    first = track_of(order())
    feed(first, [(n // 100, n, "start") for n in range(5_000)])
    deltas = [first.snapshot()]
    feed(first, [(60, n, "finish") for n in range(4_900)])
    deltas.append(first.snapshot())
    assert len(first.instances) == 100
    feed(first, [(61, 9_999, "start")])
    first.snapshot()
    feed(first, [(62, 9_999, "finish")])
    assert len(first.instances._codes) <= 1_024
    found = []
    for low, high in ((0, 50), (50, 128)):
        state: dict[str, list[pl.DataFrame]] = {}
        for delta in deltas:
            for name in delta.drops:
                state.pop(name, None)
            for name, frame in delta.puts:
                state.setdefault(name, []).append(frame.filter(pl.col(KEY_GROUP).is_between(low, high - 1)))
        second = track_of(order())
        second.restore(state)
        found += feed(second, [(70, 4_950 if low else 4_951, "other")])
        found += [b.frame for b in second.on_watermark(Watermark(10_000, 0))]
    ended = pl.concat(found)
    assert sorted(ended["order_id"].to_list()) == list(range(4_900, 5_000))
    assert set(ended["to_state"]) == {"expired"}


def test_a_changed_definition_takes_the_instances_that_it_knows(caplog: pytest.LogCaptureFixture):
    first = track_of(order())
    feed(first, [(0, 1, "start"), (0, 2, "start")])
    state = {name: [frame] for name, frame in first.snapshot().puts}
    smaller = StateMachine(
        "order", "pending", {"pending": State(), "busy": State(final=True)},
        [Transition("pending", "busy", trigger="start")], key="order_id",
    )  # fmt: skip
    other = track_of(smaller)
    other.restore(state)
    assert "2 instances in states that it no longer has are left out (processing)" in caplog.text
    assert len(other.instances) == 0


def test_the_kernel_is_compiled_for_one_kind_of_arrays():
    from thalweg.cep.correlate import _kernel as correlate
    from thalweg.cep.machine import _kernel as machine

    operator = track_of(order(history=1))
    operator.warm_up()
    for start in (0, 10):
        feed(operator, [(start + n, n, "start") for n in range(5)])
        operator.restore({name: [frame] for name, frame in operator.snapshot(full=True).puts})
    assert len(machine.advance.signatures) == 1
    assert len(correlate.advance.signatures) <= 1


STATES = {"a": State(), "b": State(final=True)}


@pytest.mark.parametrize(
    ("states", "transitions", "says"),
    [
        (STATES, [Transition("a", "c", trigger="x")], "'c' is not a state; there are: a, b"),
        (STATES, [Transition("aa", "b", trigger="x")], "did you mean 'a'"),
        ({**STATES, "z": State(final=True)}, [Transition("a", "b", trigger="x")], "no way leads from 'a' to 'z'"),
        ({**STATES, "z": State()}, [Transition("a", ["b", "z"][n], trigger=f"t{n}") for n in (0, 1)], "dead end"),
        (STATES, [Transition("a", "b", trigger="x"), Transition("b", "a", trigger="y")], "'b' is final, but"),
        (STATES, [Transition("a", "b", trigger="x")] * 2, "an earlier transition always takes the trigger 'x'"),
        ({"a": State(timeout="1s"), "b": State(final=True)}, [Transition("a", "b", trigger="x")], "timeout and"),
        ({"a": State(timeout=1, on_timeout="c"), "c": State(timeout=2, on_timeout="a")}, [], "a circle"),
        (STATES, [Transition("a", "b", trigger="")], "no trigger"),
        ({"a": State(final=True)}, [], "the initial state 'a' is final"),
        ({"b": State()}, [], "the initial state 'a' is not a state"),
    ],
)  # fmt: skip
def test_what_can_not_be_right_is_refused(states: Any, transitions: Any, says: str):
    with pytest.raises(ConfigurationError, match="state machine 'm'") as caught:
        StateMachine("m", "a", states, transitions, key="k")
    assert says in str(caught.value)


def test_columns_are_checked_in_the_users_line():
    stream = App("t").stream("orders", schema={"ts": int, "order_id": int, "kind": str}, timestamp="ts")
    with pytest.raises(PlanError, match="no column 'type' to read triggers from"):
        stream.track(order())


def test_the_diagram_shows_states_guards_and_timeouts():
    text = order().diagram()
    assert "[*] --> pending" in text
    assert "pending --> processing: start [guard]" in text
    assert "processing --> expired: after 100" in text
    assert "class expired failure" in text
