"""Jobs whose streams meet, for tests on several workers. Run as a script: kind, name, broker, left, right, sink."""

import sys

from thalweg import App, col
from thalweg.analytics import count
from thalweg.streams import Interval, TumblingWindow

LEFT, RIGHT = {"k": str, "t": int, "v": int}, {"k": str, "t": int, "w": int}
NEAR = Interval(-500, 500)


def build(kind: str, name: str, broker: str, left: str, right: str, sink: str) -> App:
    """Interval and updating joins of topics that are partitioned by nothing; or windows over one that is, by `k`."""
    app = App(name, broker=broker)
    if kind == "windows":
        events = app.stream(left, schema=LEFT, timestamp="t", record_key="k", idle_timeout=None)
        events.key_by("k").window(TumblingWindow("1s")).aggregate(n=count()).to(sink)
        return app
    lefts, rights = app.stream(left, schema=LEFT, timestamp="t"), app.stream(right, schema=RIGHT, timestamp="t")
    lefts.join(rights, on="k", within=NEAR, allowed_lateness="1h").select("v", "w").to(sink)
    counts = rights.key_by("k").aggregate(n=count())
    met = lefts.select("v", v4=col("v") % 4).join(counts.with_columns(of=col("k")), on={"v4": "n"})
    met.select("v", "of").to(f"{sink}-changes", changes=True)
    return app


if __name__ == "__main__":
    build(*sys.argv[1:7]).run(until_caught_up=True)
