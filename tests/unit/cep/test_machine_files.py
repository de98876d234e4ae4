"""State machines in YAML files: what they mean, and what they are refused for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from thalweg import App, col
from thalweg.cep.machine import PREVIOUS, State, StateMachine, Transition, load_machines, parse_machines
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.testing import TestDriver

FILE = """
machines:
  - id: session
    initial: out
    key: [user]
    trigger_column: what
    history: 2
    remember_final: 1h
    states:
      out:
      in: {timeout: 10s, on_timeout: lost, on_entry: note}
      held: {}
      lost: {error: true}
      done: {final: true, on_entry: note}
    transitions:
      - {from: out, to: in, trigger: login, guard: "n > 1 && user != 'eve'"}
      - {from: in, to: held, when: n == 9, name: nine, action: note}
      - {from: held, to: "@previous", trigger: free}
      - {from: "*", to: done, trigger: logout}
"""


def events() -> list[dict[str, Any]]:
    steps = [("ann", "login", 1), ("ann", "login", 2), ("bob", "login", 5), ("ann", "x", 9), ("ann", "free", 0),
             ("eve", "login", 7), ("ann", "logout", 0), ("ann", "login", 3)]  # fmt: skip
    return [{"ts": n * 1000, "user": user, "what": what, "n": n_} for n, (user, what, n_) in enumerate(steps)]


def test_a_file_means_what_its_definition_in_code_means(tmp_path: Path):
    path = tmp_path / "machines.yaml"
    path.write_text(FILE)
    (read,) = load_machines(path, {"note": lambda change: None})
    states = {"out": State(), "in": State(timeout="10s", on_timeout="lost"), "held": State(),
              "lost": State(error=True), "done": State(final=True)}  # fmt: skip
    transitions = [
        Transition("out", "in", trigger="login", guard=(col("n") > 1) & (col("user") != "eve")),
        Transition("in", "held", trigger=col("n") == 9, name="nine"),
        Transition("held", PREVIOUS, trigger="free"),
        Transition("*", "done", trigger="logout"),
    ]
    made = StateMachine("session", "out", states, transitions, "user", "what", 2, "1h")
    mine, theirs = (machine.replay(events(), until=60_000) for machine in (read, made))
    assert_frame_equal(mine.changes, theirs.changes)
    assert_frame_equal(mine.invalid, theirs.invalid)
    assert mine.changes.select("user", "to_state", "trigger").rows() == [
        ("ann", "in", "login"), ("bob", "in", "login"), ("ann", "held", "nine"), ("ann", "in", "free"),
        ("ann", "done", "logout"), ("bob", "lost", "timeout"),
    ]  # fmt: skip


def test_actions_are_called_in_a_job():
    noted: list[tuple[str, str]] = []
    (machine,) = parse_machines(FILE, {"note": lambda change: noted.append((change.user, change.to_state))})
    schema = {"ts": int, "user": str, "what": str, "n": int}
    stream = App("a").stream("in", schema=schema, timestamp="ts", watermark=0)
    driver = TestDriver(stream.track(machine))
    driver.send(events())
    driver.end()
    assert noted == [("ann", "in"), ("bob", "in"), ("ann", "held"), ("ann", "in"), ("ann", "done")]


def test_a_column_that_the_events_lack_is_refused_before_anything_runs():
    (machine,) = parse_machines(FILE, {"note": print})
    stream = App("a").stream("in", schema={"ts": int, "user": str, "what": str}, timestamp="ts", watermark=0)
    with pytest.raises((ConfigurationError, PlanError), match="n"):
        stream.track(machine).explain()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("to: done", "to: dome", "did you mean 'done'"),
        ("action: note", "action: nota", "calls the action 'nota', which is not known; did you mean 'note'"),
        ("n == 9", "n ==", "state machine 'session'"),
        ("when: n == 9, name: nine", "name: nine", "needs `trigger` or `when`"),
        ("when: n == 9", "when: n == 9, trigger: nine", "needs `trigger` or `when`"),
        ("history: 2", "histroy: 2", "histroy"),
        ("timeout: 10s", "timeout: soon", "soon"),
        ("history: 2", "time: wall_clock", "wall_clock"),
        ("machines:", "machine:", "machine"),
        ("  - id", "  - [id", "state machines"),
    ],
)
def test_what_is_wrong_is_said(before: str, after: str, message: str):
    assert before in FILE
    with pytest.raises(ConfigurationError, match=message):
        parse_machines(FILE.replace(before, after), {"note": print})


def test_two_of_one_id_and_a_file_that_is_not_there(tmp_path: Path):
    twice = FILE + FILE.replace("machines:\n", "")
    with pytest.raises(ConfigurationError, match="'session' comes twice"):
        parse_machines(twice, {"note": print})
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_machines(tmp_path / "nowhere.yaml")
