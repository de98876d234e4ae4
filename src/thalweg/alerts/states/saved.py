"""States as frames: what snapshots keep.

One row per state: rule, key (a JSON list of texts), the event (JSON), and numbers as in `layout`. A state that is gone
is a row without `since`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import polars as pl

from thalweg.alerts.states.changes import Followed
from thalweg.alerts.states.keys import Key, Place
from thalweg.alerts.states.layout import ENDED, FIRING, GROUP, LAST, MORE, NEVER, RULE, SINCE, TOLD, WIDTH
from thalweg.alerts.states.table import Gone, States
from thalweg.records import Int64s
from thalweg.streams.batch import KEY_GROUP

_NUMBERS = {"since": SINCE, "last": LAST, "told": TOLD, "ended": ENDED, "more": MORE, "firing": FIRING}
SCHEMA = pl.Schema(
    {
        KEY_GROUP: pl.UInt16,
        "rule": pl.String,
        "key": pl.String,
        "event": pl.String,
        **dict.fromkeys(_NUMBERS, pl.Int64),
    }
)


def frame_of(ids: Sequence[str], states: States) -> pl.DataFrame:
    """States of rules of these ids."""
    rows = states.rows
    keys = pl.Series([_text(key) for _, key in states.keys], dtype=pl.String)
    columns = {
        KEY_GROUP: rows[:, GROUP],
        "rule": pl.Series(ids, dtype=pl.String).gather(rows[:, RULE]),
        "key": keys.gather(states.which),
        "event": states.events,
        **{name: rows[:, column] for name, column in _NUMBERS.items()},
    }
    return pl.DataFrame(columns, schema_overrides=SCHEMA)


def gone_frame(ids: Sequence[str], gone: Gone) -> pl.DataFrame:
    """States that are no more."""
    keys = pl.Series([_text(key) for _, key in gone.keys], dtype=pl.String)
    columns = {
        KEY_GROUP: gone.groups,
        "rule": pl.Series(ids, dtype=pl.String).gather(gone.rules),
        "key": keys.gather(gone.which),
    }
    found = pl.DataFrame(columns, schema_overrides={KEY_GROUP: SCHEMA[KEY_GROUP]})
    return found.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in columns)


def frame_of_followed(states: Sequence[Followed], keys: Sequence[Key]) -> pl.DataFrame:
    """States that came one by one."""
    rows = [
        (
            s.group, s.rule, _text(key), msgspec.json.encode(s.event).decode(), s.since, s.last, s.told,
            NEVER if s.ended is None else s.ended, s.more, int(s.firing),
        )
        for s, key in zip(states, keys, strict=True)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _text(key: Key) -> str:
    return msgspec.json.encode(key).decode()


def followed(row: Int64s, rule: str, fingerprint: str, event: str, key: Key) -> Followed:
    """One state by itself."""
    ended = int(row[ENDED])
    return Followed(
        rule, fingerprint, int(row[GROUP]), int(row[SINCE]), int(row[LAST]), msgspec.json.decode(event),
        bool(row[FIRING]), None if ended == NEVER else ended, int(row[MORE]), int(row[TOLD]), key,
    )  # fmt: skip


def latest(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The states that are left of frames, oldest first."""
    rows = pl.concat([SCHEMA.to_frame(), *frames])
    return rows.unique(["rule", "key"], keep="last", maintain_order=True).filter(pl.col("since").is_not_null())


def states_of(rows: pl.DataFrame, columns: Mapping[str, tuple[str, ...]], numbers: Mapping[str, int]) -> States:
    """The rows of frames as states; those of rules without columns, or whose key is of other columns, are left out.

    Args:
        columns: by rule's id, what its keys are of.
        numbers: the rules'.
    """
    places, which, kept = dict[Place, int](), list[int](), list[int]()
    for number, (id, text) in enumerate(rows.select("rule", "key").iter_rows()):
        key = msgspec.json.decode(text, type=tuple[str, ...])
        if id in columns and len(key) == len(columns[id]):
            which.append(places.setdefault((columns[id], key), len(places)))
            kept.append(number)
    rows = rows[kept]
    found = np.zeros((rows.height, WIDTH), np.int64)
    for name, column in _NUMBERS.items():
        found[:, column] = rows.get_column(name).to_numpy()
    found[:, GROUP] = rows.get_column(KEY_GROUP).to_numpy()
    found[:, RULE] = [numbers[id] for id in rows.get_column("rule").to_list()]
    return States(found, rows.get_column("event"), list(places), np.array(which, np.int64))
