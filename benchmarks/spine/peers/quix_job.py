"""The sensor job in Quix Streams, with its defaults. `BENCH_CLOSING=partition` closes windows per partition, as most
other engines do, instead of per key."""

import os

from quixstreams import Application
from quixstreams.dataframe.windows import Mean

sink = os.environ["BENCH_OUTPUT"]
app = Application(
    broker_address=os.environ["BENCH_BOOTSTRAP"],
    consumer_group=f"quix-{sink}",
    auto_offset_reset="earliest",
    state_dir=os.environ["BENCH_STATE"],
    loglevel="WARNING",
)
readings = app.topic(
    os.environ["BENCH_INPUT"],
    key_deserializer="str",
    value_deserializer="json",
    timestamp_extractor=lambda value, headers, ts, kind: value["ts"],
)
averages = app.topic(sink, value_serializer="json")
(
    app.dataframe(readings)
    .filter(lambda r: 0 <= r["temperature"] <= 100)
    .tumbling_window(1_000, grace_ms=1_000)
    .agg(average=Mean("temperature"))
    .final(closing_strategy=os.environ.get("BENCH_CLOSING", "key"))
    .apply(
        lambda r, key, ts, headers: {"sensor_id": key, "window_start": r["start"], "average": r["average"]},
        metadata=True,
    )
    .to_topic(averages)
)
if __name__ == "__main__":
    app.run()
