"""Epochs count per source partition, and only where something changed."""

from __future__ import annotations

from thalweg.streams.connector import PartitionEpoch
from thalweg.streams.engine.progress import Progress

A, B, C = ("t", 0), ("t", 1), ("t", 2)
STAMPS = {A: 100, B: 200, C: 300}


def test_only_partitions_that_moved_get_an_epoch() -> None:
    progress = Progress([A, B, C], {})
    progress.moved("t", {0: 10})
    first = progress.epochs(STAMPS, (), False)
    assert first == {A: PartitionEpoch(1, 10, 100)}
    progress.confirm(first)
    assert progress.epochs(STAMPS, (), False) == {}
    progress.moved("t", {0: 12, 1: 5})
    assert progress.epochs(STAMPS, (), False) == {A: PartitionEpoch(2, 12, 100), B: PartitionEpoch(1, 5, 200)}


def test_a_watermark_that_moved_counts_though_the_offset_did_not() -> None:
    progress = Progress([A, B], {A: PartitionEpoch(7, 10, 100), B: PartitionEpoch(3, 4, 200)})
    assert progress.epochs({A: 150, B: 200}, (), False) == {A: PartitionEpoch(8, 10, 150)}


def test_state_is_carried_by_the_partition_of_its_number() -> None:
    committed = {A: PartitionEpoch(7, 10, 100), B: PartitionEpoch(3, 4, 200)}
    progress = Progress([A, B], committed)
    assert progress.epochs(STAMPS, {1}, False) == {B: PartitionEpoch(4, 4, 200)}
    assert progress.epochs(STAMPS, {9}, False) == {A: PartitionEpoch(8, 10, 100)}


def test_output_alone_is_carried_by_the_first_partition() -> None:
    progress = Progress([A, B], {A: PartitionEpoch(7, 10, 100), B: PartitionEpoch(3, 4, 200)})
    assert progress.epochs(STAMPS, (), True) == {A: PartitionEpoch(8, 10, 100)}


def test_a_partition_that_was_never_read_has_no_position_to_commit() -> None:
    progress = Progress([A, B], {})
    progress.moved("t", {1: 5})
    assert progress.epochs(STAMPS, {0, 1}, True) == {B: PartitionEpoch(1, 5, 200)}
