"""State records: what goes in comes out, laid out by key group, and nothing unreadable passes as empty."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from thalweg.errors import StateError
from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.connector import StateRecord
from thalweg.streams.engine.state_codec import MAGIC, decode, describe, encode, merge, touched
from thalweg.streams.operator import StateDelta


def frame(groups: list[int], **columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({KEY_GROUP: pl.Series(groups, dtype=pl.UInt16), **columns})


def merged(records: list[StateRecord]) -> dict[str, dict[str, pl.DataFrame]]:
    states = merge(records).of_operators()
    return {op: {name: pl.concat(frames) for name, frames in state.items()} for op, state in states.items()}


@pytest.mark.parametrize("partitions", [1, 3, 4, 128])
def test_rows_come_back_whole_whatever_the_layout(partitions: int) -> None:
    numbers = frame(list(range(0, 128, 5)), v=list(range(26)))
    texts = frame([3, 127, 3], s=["a", None, "c"], n=[[1], [], None])
    records = encode("w", StateDelta(puts=[("p1", numbers), ("p2", texts), ("p1", numbers)]), partitions)
    state = merged(records)["w"]
    assert_frame_equal(state["p1"], pl.concat([numbers, numbers]), check_row_order=False)
    assert_frame_equal(state["p2"], texts, check_row_order=False)
    for record in records:
        for _, rows in decode(record).delta.puts:
            owners = {group * partitions // 128 for group in rows[KEY_GROUP]}
            assert owners == {record.state_partition}


def test_frames_of_a_name_keep_their_order_and_borders() -> None:
    deltas = [
        StateDelta(puts=[("a", frame([0], v=[i])), ("b", frame([0], w=[i])), ("a", frame([0], v=[-i]))]) for i in (1, 2)
    ]
    state = merge([r for d in deltas for r in encode("w", d, 1)]).of_operators()["w"]
    assert [f["v"].to_list() for f in state["a"]] == [[1], [-1], [2], [-2]]
    assert [f["w"].to_list() for f in state["b"]] == [[1], [2]]


def test_drops_come_before_puts_and_reach_every_partition() -> None:
    first = encode("w", StateDelta(puts=[("a", frame([0, 127], v=[1, 2])), ("b", frame([5], v=[3]))]), 2)
    second = encode("w", StateDelta(drops=["a"], puts=[("a", frame([0], v=[9]))]), 2)
    state = merged([*first, *second])["w"]
    assert state["a"]["v"].to_list() == [9]
    assert state["b"]["v"].to_list() == [3]


def test_a_full_snapshot_voids_the_past_of_its_operator_only() -> None:
    old = encode("w", StateDelta(puts=[("a", frame([0, 127], v=[1, 2]))]), 4)
    other = encode("x", StateDelta(puts=[("a", frame([0], v=[7]))]), 4)
    full = encode("w", StateDelta(full=True, puts=[("b", frame([127], v=[3]))]), 2, void_to=4)
    state = merged([*old, *other, *full])
    assert set(state["w"]) == {"b"}
    assert state["x"]["a"]["v"].to_list() == [7]


def test_an_empty_full_snapshot_still_voids() -> None:
    old = encode("w", StateDelta(puts=[("a", frame([0], v=[1]))]), 1)
    assert merged([*old, *encode("w", StateDelta(full=True), 1)])["w"] == {}


def test_a_delta_of_nothing_writes_nothing() -> None:
    assert encode("w", StateDelta(puts=[("a", frame([], v=pl.Series([], dtype=pl.Int64).to_list()))]), 4) == []


def test_touched_names_only_what_changed() -> None:
    put = StateDelta(puts=[("a", frame([0, 1, 127], v=[1, 2, 3]))])
    assert touched([put], 4) == {0, 3}
    assert touched([StateDelta(drops=["a"])], 4) == {0, 1, 2, 3}
    assert touched([], 4) == set()


def test_frames_without_key_groups_are_refused() -> None:
    with pytest.raises(StateError, match="'a' has no '__kg' column"):
        encode("w", StateDelta(puts=[("a", pl.DataFrame({"v": [1]}))]), 1)


def test_what_cannot_be_read_is_an_error_never_empty_state() -> None:
    (record,) = encode("w", StateDelta(puts=[("a", frame([0], v=[1]))]), 1)
    damaged = {
        "not a state record": b"PK\x03\x04" + record.payload[4:],
        "format version 9": MAGIC + b"\x09" + record.payload[5:],
        "unreadable": record.payload[:-1],
    }
    for message, payload in damaged.items():
        with pytest.raises(StateError, match=message):
            merge([StateRecord(0, "w", payload)])
    for length in range(len(record.payload)):
        with pytest.raises(StateError):
            decode(StateRecord(0, "w", record.payload[:length]))


def test_describe_tells_what_a_record_holds() -> None:
    (record,) = encode("w", StateDelta(drops=["x"], puts=[("a", frame([0, 0], v=[1, 2]))]), 1)
    told = describe(record)
    assert (told["operator"], told["drops"], told["puts"], told["full"]) == ("w", ["x"], [("a", 2)], False)
