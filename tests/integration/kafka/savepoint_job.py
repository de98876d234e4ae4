"""A job with two exchanges, in two versions. Run as a script: version, name, broker, source, sink, and for how long."""

import sys

from thalweg import App, col
from thalweg.analytics import count, max_
from thalweg.streams import TumblingWindow

SCHEMA = {"k": str, "t": int, "v": int}


def build(version: str, name: str, broker: str, source: str, sink: str) -> App:
    """Counts per key and second, and of these per number of events; version 2 also keeps the largest value."""
    app = App(name, broker=broker, commit_interval="20ms")
    events = app.stream(source, schema=SCHEMA, timestamp="t", watermark="1s", idle_timeout=None)
    more = {} if version == "1" else {"top": max_("v")}
    counts = events.key_by("k").window(TumblingWindow("1s")).aggregate(n=count(), **more).uid("counts")
    counts.to(sink)
    sizes = counts.select("n", "window_end").key_by("n").aggregate(times=count()).uid("sizes")
    sizes.with_columns(seen=col("times")).to(f"{sink}-sizes", changes=True)
    return app


if __name__ == "__main__":
    caught_up = sys.argv[6] == "caught-up"
    build(*sys.argv[1:6]).run(until_caught_up=caught_up, seconds=None if caught_up else float(sys.argv[6]))
