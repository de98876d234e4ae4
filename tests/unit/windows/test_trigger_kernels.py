"""What the trigger kernels leave out must not matter; the hashes by which they find windows must tell them apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.streams import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
)
from thalweg.streams.triggers._automaton import ARMS, MAY_FIRE, fire, ready, scratch, take_event
from thalweg.streams.triggers._facts import WIDTH
from thalweg.streams.triggers._kernel import with_ends
from thalweg.streams.triggers.program import compile_trigger

leaves = st.one_of(
    st.builds(AfterCount, st.integers(1, 4)),
    st.builds(AfterProcessingTime, st.integers(1, 6)),
    st.just(AfterWatermark()),
    st.just(DefaultTrigger()),
)
_SEVERAL = (AfterAny, AfterAll, AfterEach)
triggers = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Repeatedly, inner),
        st.builds(AfterWatermark, st.none() | inner, st.none() | inner),
        *(st.lists(inner, min_size=1, max_size=3).map(lambda some, kind=kind: kind(*some)) for kind in _SEVERAL),
    ),
    max_leaves=5,
)
steps = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=25)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(triggers, steps)
def test_a_trigger_that_need_not_be_asked_would_not_have_fired(trigger, given_steps):
    """Steps are events: how much later by the clock, and whether the watermark passes before it."""
    program = compile_trigger(trigger)
    facts, marks = np.zeros((1, WIDTH + len(program)), dtype=np.int64), scratch(program)
    clock, passed = 0, False
    for later, passes in given_steps:
        clock, passed = clock + later, passed or passes
        told = take_event(program, facts, 0, clock, marks)
        assert told & ~(ARMS | MAY_FIRE) == 0
        if ready(program, facts, 0, False, clock, marks):
            assert told & MAY_FIRE, (trigger, facts[0, WIDTH:])
        if ready(program, facts, 0, passed, clock, marks) and fire(program, facts, 0, passed, marks):
            return


def test_windows_of_one_key_are_told_apart_and_spread_over_the_table():
    n = 2**16
    key = np.full(n, 0x1234_5678_9ABC_DEF0, dtype=np.int64)
    first, second = with_ends(key, key, np.arange(n, dtype=np.int64) * 60_000)
    assert len(np.unique(np.stack([first, second]), axis=1)[0]) == n
    # As many places of a table as hashes that are random reach: 1 - exp(-1/2) of twice as many.
    assert len(np.unique(first & (2 * n - 1))) > 0.75 * n


def test_equal_ends_keep_different_keys_apart():
    keys = np.random.default_rng(1).integers(-(2**63), 2**63, 10_000)
    first, second = with_ends(keys, ~keys, np.full(len(keys), 60_000, dtype=np.int64))
    assert len(np.unique(first)) == len(np.unique(second)) == len(keys)
