"""The workload: seeded sensor readings on a topic, and what the job must make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

SENSORS = 1_000
PARTITIONS = 4
EVENTS_PER_SECOND = 10_000
"""Of event time."""
OUT_OF_ORDERNESS = 1_000
SETTLE = 2_000
WINDOW = 1_000
START = 1_700_000_000_000


@dataclass(frozen=True)
class Workload:
    """`events` readings: event i is meant for START + i / EVENTS_PER_SECOND and up to 0.8 s late; nothing is late for
    the 1 s of out-of-orderness. 17 % of the temperatures lie outside 0 to 100."""

    events: int
    seed: int = 7

    def frames(self, size: int = 250_000) -> Iterator[pl.DataFrame]:
        """The readings in arrival order: sensor (number), ts (ms), temperature, humidity."""
        random = np.random.default_rng(self.seed)
        for first in range(0, self.events, size):
            index = np.arange(first, min(first + size, self.events))
            delay = random.integers(0, 800, len(index))
            yield pl.DataFrame(
                {
                    "sensor": random.integers(0, SENSORS, len(index)),
                    "ts": START + index * 1_000 // EVENTS_PER_SECOND - delay,
                    "temperature": random.integers(-1_000, 11_000, len(index)) / 100,
                    "humidity": random.integers(0, 10_000, len(index)) / 100,
                }
            )

    def expected(self) -> pl.DataFrame:
        """sensor_id, window_start, average, for every window that the input closes for all partitions and sensors.

        Bytewax keeps a watermark per key: the last windows of a sensor with no valid reading after them stay open
        there. The last `SETTLE` ms are therefore nobody's to deliver.
        """
        events = pl.concat(self.frames()).with_columns(partition=pl.col("sensor") % PARTITIONS)
        watermark = events.group_by("partition").agg(pl.col("ts").max())["ts"].min() - OUT_OF_ORDERNESS - SETTLE
        return (
            events.filter(pl.col("temperature").is_between(0, 100))
            .group_by(sensor_id(pl.col("sensor")), window_start=pl.col("ts") // WINDOW * WINDOW)
            .agg(average=pl.col("temperature").mean())
            .filter(pl.col("window_start") + WINDOW <= watermark)
        )

    def arrived_when_closed(self) -> dict[int, int]:
        """For each window start that the input closes: how many events had arrived when its last partition did so."""
        arrived = pl.concat(self.frames()).with_row_index("i").with_columns(partition=pl.col("sensor") % PARTITIONS)
        watermark = pl.col("ts").cum_max().over("partition") - OUT_OF_ORDERNESS
        closed = (watermark // WINDOW * WINDOW - WINDOW).alias("window_start")
        first = arrived.select("i", "partition", closed).group_by("partition", "window_start").agg(pl.col("i").min())
        # A partition may jump over a window: the next one that it reached closed it too.
        grid = first.select("window_start").unique().join(first.select("partition").unique(), how="cross")
        reached = grid.sort("window_start").join_asof(
            first.sort("window_start"), on="window_start", by="partition", strategy="forward", check_sortedness=False
        )
        counts = reached.group_by("window_start").agg(pl.col("i").max() + 1, missing=pl.col("i").is_null().any())
        return dict(counts.filter(~pl.col("missing")).select("window_start", "i").sort("window_start").iter_rows())


def sensor_id(sensor: pl.Expr) -> pl.Expr:
    """The id of a sensor number: `sensor-0042`."""
    return (pl.lit("sensor-") + sensor.cast(pl.String).str.zfill(4)).alias("sensor_id")


def records(frame: pl.DataFrame) -> Iterator[tuple[int, str, str]]:
    """(partition, key, JSON) of each reading, spaced as `json.dumps` spaces it."""
    key = sensor_id(pl.col("sensor"))
    value = pl.concat_str(
        pl.lit('{"sensor_id": "'), key, pl.lit('", "ts": '), "ts", pl.lit(', "temperature": '), "temperature",
        pl.lit(', "humidity": '), "humidity", pl.lit("}"),
    )  # fmt: skip
    return frame.select(pl.col("sensor") % PARTITIONS, key, value.alias("json")).iter_rows()
