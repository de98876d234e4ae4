"""The engine's own columns, which users' functions don't see.

The names are those of `thalweg.streams.batch`; they are told by their form here, because expressions know nothing of
streams.
"""

from __future__ import annotations

EVENT_TIME = "__ts"
CHANGE = "__op"


def is_reserved(name: str) -> bool:
    """Whether the engine owns the column; `__op` is for users to see.

    >>> is_reserved("__ts"), is_reserved("__op"), is_reserved("value")
    (True, False, False)
    """
    return name in _NAMES


_NAMES = frozenset(
    {
        EVENT_TIME,
        "__wm",
        "__ingested",
        "__partition",
        "__offset",
        "__source",
        "__kg",
        "__late_window_end",
        "__lateness",
    }
)
