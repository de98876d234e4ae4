"""What an operator's state depends on, saved with every full snapshot, so that another definition is not given it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from thalweg.errors import StateError
from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import State, StateDelta

NAME = "__signature"


def signed(delta: StateDelta, signature: Mapping[str, Any]) -> StateDelta:
    """A full snapshot with the operator's signature as one more frame."""
    text = msgspec.json.encode(dict(signature)).decode()
    row = pl.DataFrame({"signature": [text]}).with_columns(pl.lit(0, pl.UInt16).alias(KEY_GROUP))
    return StateDelta(delta.drops, [*delta.puts, (NAME, row)], delta.full)


def checked(state: State, signature: Mapping[str, Any], operator_id: str) -> State:
    """The state without its signature.

    Raises:
        StateError: it was saved by a step that is defined otherwise.
    """
    for frame in state.get(NAME, ())[-1:]:
        saved = msgspec.json.decode(frame.item(0, "signature").encode())
        now = msgspec.json.decode(msgspec.json.encode(dict(signature)))
        differing = sorted(name for name in saved.keys() & now.keys() if saved[name] != now[name])
        if differing:
            changes = "; ".join(
                f"{name} was {_shown(saved[name])} and is {_shown(now[name])} now" for name in differing
            )
            raise StateError(
                f"the saved state of {operator_id!r} does not fit the program: {changes}. Give the step another "
                f".uid(…) to start it anew, and drop the old state with App(forget_state=({operator_id!r},))"
            )
    return {name: frames for name, frames in state.items() if name != NAME}


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
