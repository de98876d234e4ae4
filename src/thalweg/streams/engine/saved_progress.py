"""What operators save beside their rows: how far time had come for them, and their account.

Saved as "progress": a row per key group with the time up to which results were given, as the owner of any share of the
groups must not give them again; the account stands in key group 0. While time stands still only that row is written.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from thalweg.errors import StateError
from thalweg.streams.batch import KEY_GROUP, MIN_TIME
from thalweg.streams.operator import Account, State, StateDelta
from thalweg.streams.state.key_groups import KEY_GROUPS

PROGRESS = "progress"
CLOSED = "closed"
_COUNTS = ("received", "passed", "absorbed", "filtered", "late")


class SavedProgress:
    """How much of an operator's progress the state knows."""

    def __init__(self) -> None:
        self._closed = MIN_TIME
        self._counts = dict.fromkeys(_COUNTS, 0)

    def change(self, closed: int, account: Account, *, changed: bool, full: bool) -> StateDelta:
        """What to save.

        Time alone is no change worth a commit: after a restart the engine gives its watermark first.

        Args:
            closed: how far time has come.
            changed: the operator saves something else, or has given results or let rows go since the last snapshot.
        """
        counts = {name: getattr(account, name) for name in _COUNTS}
        if not (changed or full or counts != self._counts):
            return StateDelta()
        moved = full or closed != self._closed
        self._closed, self._counts = closed, counts
        groups = np.arange(KEY_GROUPS if moved else 1, dtype=np.uint16)
        own = (groups == 0).astype(np.int64)
        columns = {KEY_GROUP: groups, CLOSED: np.full(len(groups), closed)}
        columns |= {name: count * own for name, count in counts.items()}
        rows = pl.DataFrame([pl.Series(name, values) for name, values in columns.items()])
        return StateDelta(drops=(PROGRESS,) if moved and not full else (), puts=[(PROGRESS, rows)], full=full)

    def restore(self, state: State, account: Account, operator_id: str) -> int:
        """Takes back what was saved: the account, and how far time had come, which is returned."""
        for frame in state.get(PROGRESS, ()):
            if CLOSED not in frame.columns:
                raise StateError(f"{operator_id}: the saved progress has the columns {frame.columns}")
            if not frame.height:
                continue
            self._closed = max(self._closed, int(frame[CLOSED].max()))  # type: ignore[arg-type]
            for row in frame.filter(pl.col(KEY_GROUP) == 0).rows(named=True):
                self._counts = {name: row.get(name, 0) for name in _COUNTS}
        for name, count in self._counts.items():
            setattr(account, name, count)
        return self._closed
