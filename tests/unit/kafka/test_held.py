"""Records that wait for a schema: each partition in order, each record once, and no position beyond what waits."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import NotReady
from thalweg.formats import patience
from thalweg.kafka._held import HeldRecords
from thalweg.kafka._records import divide
from thalweg.records import RawRecords


class Owner:
    """Counts what is still on loan."""

    def __init__(self, loans: list[int], rows: int) -> None:
        self.loans = loans
        self.rows = rows
        loans[0] += 1

    def keep(self, rows: np.ndarray) -> Owner:
        self.rows = int(rows.sum())
        return self

    def share(self, rows: np.ndarray) -> Owner:
        return Owner(self.loans, int(rows.sum()))

    def release(self) -> None:
        self.loans[0] -= 1


def batch(partitions: list[int], ends: dict[int, int], loans: list[int]) -> RawRecords:
    """The next records of these partitions; their schema is their timestamp."""
    offsets = []
    for partition in partitions:
        offsets.append(ends[partition])
        ends[partition] += 1
    n, none = len(partitions), np.zeros(len(partitions), np.int64)
    return RawRecords(
        "t", none.astype(np.uint64), none, none.astype(np.uint64), none, np.array(partitions, np.int32),
        np.array(offsets), none, Owner(loans, n),
    )  # fmt: skip


class Decoder:
    """Knows some schemas: that of the record at `offset` of `partition` is `schemas[partition][offset]`."""

    def __init__(self, schemas: dict[tuple[int, int], int]) -> None:
        self.schemas = schemas
        self.known = {0}

    def __call__(self, raw: RawRecords) -> list[tuple[int, int]]:
        assert raw.owner.rows == len(raw)
        places = list(zip(raw.partition.tolist(), raw.offset.tolist(), strict=True))
        late = [row for row, place in enumerate(places) if self.schemas.get(place, 0) not in self.known]
        if late:
            error = NotReady("not now")
            error.rows = late
            raise error
        raw.release()
        return places


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST", 0.0)
    monkeypatch.setattr(patience, "_LONGEST", 0.0)


STEPS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 3), min_size=1, max_size=12),  # records of these partitions come
        st.just("again"),
        st.integers(1, 3),  # a schema becomes known
    ),
    max_size=25,
)


@given(STEPS, st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 12)), st.integers(1, 3), max_size=8))
def test_nothing_is_lost_doubled_or_overtaken(steps: list[Any], schemas: dict[tuple[int, int], int]) -> None:
    held, decoder, loans = HeldRecords(), Decoder(schemas), [0]
    ends: dict[int, int] = defaultdict(int)
    given: dict[int, list[int]] = defaultdict(list)

    def take(done: tuple[list[tuple[int, int]], dict[tuple[str, int], int]] | None) -> None:
        if done is None:
            return
        places, positions = done
        for partition, offset in places:
            given[partition].append(offset)
        for (_, partition), position in positions.items():
            assert position == len(given[partition])

    for step in steps:
        if step == "again":
            take(held.again(decoder))
        elif isinstance(step, int):
            decoder.known.add(step)
        else:
            raw = batch(sorted(step), ends, loans)
            take(held.decode(raw, {("t", p): ends[p] for p in set(step)}, decoder))
        waiting = {partition for _, partition in held.partitions()}
        assert held.starts() == {("t", p): len(given[p]) for p in waiting}
        for partition, end in ends.items():
            assert given[partition] == list(range(len(given[partition])))
            assert partition in waiting or len(given[partition]) == end  # what can go goes
    decoder.known |= {1, 2, 3}
    while held:
        take(held.again(decoder))
    assert given == {p: list(range(end)) for p, end in ends.items()}
    assert loans == [0]


def test_an_error_that_names_no_rows_holds_all_of_the_batch() -> None:
    held, loans = HeldRecords(), [0]

    def refuse(raw: RawRecords) -> None:
        raise NotReady("not now")

    assert held.decode(batch([0, 1], defaultdict(int), loans), {("t", 0): 1, ("t", 1): 1}, refuse) is None
    assert held.partitions() == {("t", 0), ("t", 1)}
    held.drop([("t", 0)])
    assert held.starts() == {("t", 1): 0}
    held.release()
    assert (len(held), loans) == (0, [0])


def test_a_batch_is_divided_only_where_it_has_to_be() -> None:
    raw = batch([0, 0, 1], defaultdict(int), [0])
    assert divide(raw, np.zeros(3, bool)) == (raw, None)
    assert divide(raw, np.ones(3, bool)) == (None, raw)
