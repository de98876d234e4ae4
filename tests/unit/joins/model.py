"""Joins by their definition, over lists of dicts: what the operators are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from thalweg.streams import App, DataStream
from thalweg.streams.testing import TestDriver

Row = dict[str, Any]
SCHEMAS = {"left": {"k": str, "t": int, "v": int}, "right": {"k": str, "t": int, "w": int}}
VALUES = {"left": "v", "right": "w"}

events = st.lists(
    st.tuples(
        st.sampled_from(["left", "right"]), st.sampled_from(["a", "b", "c", None]), st.integers(0, 120), st.booleans()
    ),
    max_size=40,
)
"""Source, key, time, and whether the batch ends here."""


def streams(out_of_orderness: int = 0) -> tuple[DataStream, DataStream]:
    """The two inputs."""
    app = App("joins")
    left, right = (
        app.stream(name, schema=schema, timestamp="t", watermark=out_of_orderness) for name, schema in SCHEMAS.items()
    )
    return left, right


def numbered(drawn: Iterable[tuple[str, str | None, int, bool]]) -> list[tuple[str, Row, bool]]:
    """Drawn events as rows, each with a value of its own."""
    return [
        (source, {"k": key, "t": time, VALUES[source]: number}, cut)
        for number, (source, key, time, cut) in enumerate(drawn)
    ]


def drive(
    stream: DataStream, rows: Sequence[tuple[str, Row, bool]], *, whole: bool = False, crash_at: int | None = None
) -> list[Row]:
    """Sends rows in order, in one batch per source at a time (cut where drawn, unless `whole`); all results."""
    driver = TestDriver(stream)
    found: list[Row] = []
    batch: list[Row] = []
    for number, (source, row, cut) in enumerate(rows):
        batch.append(row)
        following = rows[number + 1][0] if number + 1 < len(rows) else None
        if following != source or (cut and not whole):
            driver.send(batch, source=source)
            batch = []
        if number == crash_at and not batch:
            found += driver.output().to_dicts()
            saved, driver = driver.snapshot(), TestDriver(stream)
            driver.restore(saved)
    driver.end()
    for account in driver.accounts().values():
        assert account.closes
    return found + driver.output().to_dicts()


def in_time(rows: Sequence[tuple[str, Row, bool]], source: str, out_of_orderness: int, slack: int) -> list[Row]:
    """The rows of one input that are not more than `slack` behind their watermark."""
    highest: int | None = None
    kept = []
    for one, row, _ in rows:
        if one == source:
            if highest is None or row["t"] + slack >= highest - out_of_orderness:
                kept.append(row)
            highest = row["t"] if highest is None else max(highest, row["t"])
    return kept


def joined(left: list[Row], right: list[Row], how: str, meets: Callable[[Row, Row], bool]) -> list[Row]:
    """The join by its definition; null keys meet nobody."""
    pairs = [(one, other) for one in left for other in right if one["k"] is not None and meets(one, other)]
    met_left, met_right = {one["v"] for one, _ in pairs}, {other["w"] for _, other in pairs}
    if how in ("semi", "anti"):
        return [one for one in left if (one["v"] in met_left) == (how == "semi")]
    found = [{**one, "t_right": other["t"], "w": other["w"]} for one, other in pairs]
    if how in ("left", "full"):
        found += [{**one, "t_right": None, "w": None} for one in left if one["v"] not in met_left]
    if how in ("right", "full"):
        nobody = [other for other in right if other["w"] not in met_right]
        found += [{"k": o["k"], "t": None, "v": None, "t_right": o["t"], "w": o["w"]} for o in nobody]
    return found


def bag(rows: Iterable[Row]) -> list[str]:
    """Rows in a form that can be compared: without regard to order."""
    return sorted(repr(sorted(row.items())) for row in rows)
