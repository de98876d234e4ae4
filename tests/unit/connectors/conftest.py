"""An embedded log in a temporary folder, and the smallest honest decoder and encoder: a number per record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from thalweg.connectors.sqlite_log import EmbeddedLog, SqliteBroker
from thalweg.records import Decoded, DecodeError, EncodedRecords, RawRecords
from thalweg.streams.connector import Guarantee, JobSettings, SinkWrite
from thalweg.streams.connector import Source as SourceType


class NumberDecoder:
    """Column `n`; anything but a decimal number is an error."""

    def decode(self, raw: RawRecords) -> Decoded:
        payloads = [raw.value(row) for row in range(len(raw))]
        good = [row for row, payload in enumerate(payloads) if payload is not None and payload.isdigit()]
        errors = [DecodeError(row, "NotANumber", "no number") for row in range(len(raw)) if row not in set(good)]
        frame = pl.DataFrame({"n": [int(payloads[row] or b"") for row in good]}, schema={"n": pl.Int64})
        return Decoded(frame, np.array(good, dtype=np.int64) if errors else None, errors)


class NumberEncoder:
    """One record per row, or one for the frame (as Arrow does)."""

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        texts = [str(n).encode() for n in frame["n"].to_list()]
        if self.whole:
            texts = [b",".join(texts)]
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
        return EncodedRecords(np.frombuffer(b"".join(texts), dtype=np.uint8), offsets)


@dataclass
class Place:
    """A log file and what a test does with it."""

    path: Path
    log: EmbeddedLog
    broker: SqliteBroker

    def source(self, topic: str = "in", **settings: object) -> SourceType:
        timestamps = bool(settings.pop("broker_timestamps", False))
        return self.broker.source(topic, NumberDecoder(), self.job(**settings), broker_timestamps=timestamps)

    def job(self, **settings: object) -> JobSettings:
        if "guarantee" in settings:
            settings["guarantee"] = Guarantee(settings["guarantee"])
        return JobSettings(**{"name": "job", **settings})  # type: ignore[arg-type]

    def numbers(self, topic: str = "out") -> list[int]:
        return [int(value) for value in self.log.records(topic)["value"]]


def numbers(*values: int, topic: str = "out", key: bool = False, **more: object) -> SinkWrite:
    frame = pl.DataFrame({"n": values}, schema={"n": pl.Int64})
    return SinkWrite(topic, frame, NumberEncoder(), "n" if key else None, **more)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    path = tmp_path / "data.db"
    log, broker = EmbeddedLog(path), SqliteBroker(f"sqlite:///{path}")
    yield Place(path, log, broker)
    broker.close()
    log.close()
