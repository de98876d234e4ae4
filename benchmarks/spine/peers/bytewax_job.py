"""The sensor job in Bytewax. The clock's wall time is held still: windows close by event time alone, as elsewhere."""

import json
import os
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as windowing
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
bootstrap = [os.environ["BENCH_BOOTSTRAP"]]


def parse(message):
    return json.loads(message.value)


def to_record(item):
    key, (window, (total, number)) = item
    result = {"sensor_id": key, "window_start": window * 1000, "average": total / number}
    return KafkaSinkMessage(key.encode(), json.dumps(result).encode())


flow = Dataflow("sensors")
messages = op.input("in", flow, KafkaSource(bootstrap, [os.environ["BENCH_INPUT"]]))
readings = op.map("parse", messages, parse)
valid = op.filter("valid", readings, lambda r: 0 <= r["temperature"] <= 100)
keyed = op.key_on("key", valid, lambda r: r["sensor_id"])
windows = windowing.fold_window(
    "mean",
    keyed,
    windowing.EventClock(
        ts_getter=lambda r: EPOCH + timedelta(milliseconds=r["ts"]),
        wait_for_system_duration=timedelta(seconds=1),
        now_getter=lambda: EPOCH,
    ),
    windowing.TumblingWindower(length=timedelta(seconds=1), align_to=EPOCH),
    builder=lambda: (0.0, 0),
    folder=lambda state, r: (state[0] + r["temperature"], state[1] + 1),
    merger=lambda a, b: (a[0] + b[0], a[1] + b[1]),
)
op.output("out", op.map("record", windows.down, to_record), KafkaSink(bootstrap, os.environ["BENCH_OUTPUT"]))

if __name__ == "__main__":
    cluster_main(flow, [], 0)
