"""What offsets say beside the offset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.connectors.kafka_changelog import EpochName, Tip
from thalweg.connectors.kafka_commit_metadata import CommitMetadata
from thalweg.errors import StateError
from thalweg.streams.batch import MIN_TIME

_TIPS = st.dictionaries(
    st.integers(0, 127),
    st.builds(
        Tip,
        st.builds(EpochName, st.sampled_from(["9f" * 8, "a1" * 8]), st.integers(1, 2**40)),
        st.integers(0, 2**50),
    ),
    max_size=20,
)


@given(st.integers(0, 2**60), st.integers(MIN_TIME, 2**62), _TIPS)
def test_round_trip(epoch: int, max_timestamp: int, tips: dict[int, Tip]) -> None:
    metadata = CommitMetadata(epoch, max_timestamp, tips)
    assert CommitMetadata.decode(metadata.encode(), "t [0]") == metadata


def test_128_state_partitions_fit_the_brokers_limit() -> None:
    tips = {p: Tip(EpochName("ab" * 8, 10_000_000 + p), 10_000_000_000 + p) for p in range(128)}
    assert len(CommitMetadata(10**7, 1_700_000_000_000, tips).encode()) <= 4096


def test_more_than_fits_is_refused() -> None:
    tips = {p: Tip(EpochName(f"{p:016x}", 2**40), 2**50) for p in range(128)}
    with pytest.raises(StateError, match="fewer state partitions"):
        CommitMetadata(1, 1, tips).encode()


@pytest.mark.parametrize("text", [None, "", "hello", "[]", "{}", '{"f":"x"}'])
def test_what_others_wrote_is_nobodys_metadata(text: str | None) -> None:
    assert CommitMetadata.decode(text, "t [0]") is None


def test_another_format_is_refused() -> None:
    with pytest.raises(StateError, match=r"t \[3\] has metadata of format 2"):
        CommitMetadata.decode('{"f":2}', "t [3]")


@pytest.mark.parametrize("text", ['{"f":1}', '{"f":1,"e":1,"s":[[0,1,2,0]]}', '{"f":1,"e":1,"w":["a"],"s":[[0]]}'])
def test_damage_is_an_error(text: str) -> None:
    with pytest.raises(StateError, match="is damaged"):
        CommitMetadata.decode(text, "t [0]")
