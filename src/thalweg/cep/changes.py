"""Patterns that were changed while a job ran, as the job's state keeps them: what differs from the program's own.

A pattern is kept as text (`pattern.to_text()`). What the program itself had under the id is kept as a digest: where the
program has something else there by the next start, somebody has changed the program since, and the program counts.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.errors import ConfigurationError, MissingExtraError
from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.state.key_groups import KEY_GROUPS

logger = logging.getLogger(__name__)


class Change(NamedTuple):
    """A pattern that was registered, replaced or (`text` None) removed while a job ran."""

    id: str
    version: int
    """The matcher's, when the change was made."""
    text: str | None
    name: str
    base: str
    """Digest of what the program has under this id; empty: nothing."""


SCHEMA = pl.Schema(
    {"id": pl.String(), "version": pl.Int64(), "text": pl.String(), "name": pl.String(), "base": pl.String()}
)


def digest(pattern: Pattern | None) -> str:
    """Tells patterns of one id apart: by their text, or by their structure where they have none."""
    if pattern is None:
        return ""
    try:
        what = pattern.to_text()
    except (ConfigurationError, MissingExtraError):
        what = pattern.describe()
    return hashlib.sha256(f"{pattern.name}\n{what}".encode()).hexdigest()[:16]


def text_of(pattern: Pattern) -> str | None:
    """The pattern's text; None, and a warning, where it has none that gives the same pattern again."""
    try:
        text = pattern.to_text()
        same = Pattern.parse(pattern.id, text, pattern.name).describe() == pattern.describe()
        reason = "" if same else "its text does not give the same pattern again"
    except (ConfigurationError, MissingExtraError) as error:
        reason = str(error)
    if not reason:
        return text
    logger.warning("pattern %r is not kept with the state, a restarted program lacks it: %s", pattern.id, reason)
    return None


def changes_between(
    program: Mapping[str, Pattern], now: Mapping[str, Pattern], versions: Mapping[str, int], texts: Mapping[str, str]
) -> list[Change]:
    """What differs from the program's patterns. One without a text (in `texts`) is left out."""
    changes = []
    for id, version in versions.items():
        before, after = program.get(id), now.get(id)
        if after is before or (after is not None and id not in texts):
            continue
        name = "" if after is None else after.name
        changes.append(Change(id, version, None if after is None else texts[id], name, digest(before)))
    return changes


def frame_of(changes: Iterable[Change]) -> pl.DataFrame:
    """The changes for the state: of each key group all of them, for whoever takes some of the groups over."""
    groups = pl.int_range(KEY_GROUPS, dtype=pl.UInt16, eager=True).alias(KEY_GROUP).to_frame()
    return pl.DataFrame(list(changes), schema=SCHEMA, orient="row").join(groups, how="cross")


def read(frames: Iterable[pl.DataFrame]) -> list[Change]:
    """The changes out of the state: of each id the newest."""
    newest: dict[str, Change] = {}
    for frame in frames:
        for row in frame.select(SCHEMA.names()).unique().iter_rows():
            change = Change(*row)
            if change.id not in newest or newest[change.id].version < change.version:
                newest[change.id] = change
    return sorted(newest.values(), key=lambda change: change.version)


def recovered(change: Change, program: Pattern | None) -> Pattern | None:
    """The pattern of a change, None for a removed one.

    Raises:
        ConfigurationError: the program's own pattern has changed since, or the text can't be read any more.
        MissingExtraError: what reads texts is not installed.
    """
    if digest(program) != change.base:
        raise ConfigurationError("the program has another pattern of that id than it had, and that one counts")
    return None if change.text is None else Pattern.parse(change.id, change.text, change.name)
