"""Parts of batches of records in wire form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from thalweg.records import RawRecords


@runtime_checkable
class Cut(Protocol):
    """An owner that knows of each of its rows."""

    def keep(self, rows: npt.NDArray[np.bool_]) -> Cut:
        """The batch has lost its other rows."""

    def share(self, rows: npt.NDArray[np.bool_]) -> Cut:
        """The owner of a second batch, of these rows: the memory goes when both are released."""


def some(raw: RawRecords, keep: npt.NDArray[np.bool_], owner: object, topic: str | None = None) -> RawRecords:
    """The records for which `keep` is true, with an owner of their own."""
    return RawRecords(
        raw.topic if topic is None else topic,
        raw.value_address[keep],
        raw.value_length[keep],
        raw.key_address[keep],
        raw.key_length[keep],
        raw.partition[keep],
        raw.offset[keep],
        raw.timestamp[keep],
        owner,
    )


def divide(raw: RawRecords, second: npt.NDArray[np.bool_]) -> tuple[RawRecords | None, RawRecords | None]:
    """Two batches of one, each with its share of the memory: the records for which `second` is false, and the others.

    None where there are none.
    """
    if not second.any():
        return raw, None
    if second.all():
        return None, raw
    owner, raw.owner = raw.owner, None
    if isinstance(owner, Cut):
        other = some(raw, second, owner.share(second))
        return some(raw, ~second, owner.keep(~second)), other
    return some(raw, ~second, owner), some(raw, second, owner)


def without(batches: Iterable[RawRecords], partitions: Iterable[tuple[str, int]]) -> list[RawRecords]:
    """The batches less the records of these partitions; what is left empty is released."""
    gone: dict[str, list[int]] = {}
    for topic, partition in partitions:
        gone.setdefault(topic, []).append(partition)
    kept: list[RawRecords] = []
    for raw in batches:
        keep = ~np.isin(raw.partition, gone.get(raw.topic, []))
        if keep.all():
            kept.append(raw)
        elif keep.any():
            owner, raw.owner = raw.owner, None
            if isinstance(owner, Cut):
                owner = owner.keep(keep)
            kept.append(some(raw, keep, owner))
        else:
            raw.release()
    return kept
