"""Protobuf to columns, against Google's library (upb, which is C), one thread each.

    python benchmarks/protobuf_decode.py [--records N] [--seconds S]

Results are compared first. Google's library gives an object for each message; "parse" is that alone, "columns" is the
objects made into a frame, as records that are not for the kernel are read.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from avro_decode import best, order, raw_records, sensor, trip

from thalweg.kafka.schema_registry.protobuf_columns import frame_of
from thalweg.kafka.schema_registry.protobuf_program import compile_program
from thalweg.kafka.schema_registry.protobuf_reader import MessageReader
from thalweg.kafka.schema_registry.protobuf_types import columns_of, compile_messages, set_row

_SCHEMA = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Sensor { string sensor_id = 1; int64 ts = 2; double temperature = 3; double humidity = 4; }
enum Country { DE = 0; AT = 1; CH = 2; FR = 3; }
message Order {
  string id = 1; string user = 2; Country country = 3; string path = 4; double amount = 5; int32 quantity = 6;
  bool express = 7; optional string coupon = 8; string agent = 9; int64 at = 10;
}
message Place { double lat = 1; double lon = 2; }
message Stop { string name = 1; int32 minutes = 2; }
message Trip {
  string id = 1; Place start = 2; Place end = 3; repeated Stop stops = 4; google.protobuf.Timestamp at = 5;
}
"""
_SHAPES: dict[str, tuple[str, Callable[[random.Random, int], dict[str, Any]]]] = {
    "sensor, 4 fields": ("Sensor", sensor),
    "order, 10 fields": ("Order", order),
    "trip, nested messages and a list": ("Trip", trip),
}


def measure(name: str, records: int, seconds: float) -> tuple[int, float, float, float]:
    """Bytes of a message, and million messages a second: ours, parsed only, made into a frame by the library."""
    from google.protobuf.message_factory import GetMessageClass

    message, make = _SHAPES[name]
    descriptor = compile_messages(_SCHEMA, {}).by_name[message]
    kind, rng = GetMessageClass(descriptor), random.Random(7)
    payloads = []
    for i in range(records):
        made = kind()
        set_row(made, make(rng, i))
        if message == "Trip":
            made.at.FromMilliseconds(1_700_000_000_000 + i)
        payloads.append(made.SerializeToString())
    schema = columns_of(descriptor)
    reader, raw = MessageReader(compile_program(descriptor, schema)), raw_records(payloads)

    def parse() -> list[Any]:
        return [kind.FromString(payload) for payload in payloads]

    def columns() -> pl.DataFrame:
        return frame_of(parse(), descriptor, schema)[0]

    frame, refused = reader.read(raw, b"")
    if refused.any() or frame.to_dicts() != columns().to_dicts():
        raise SystemExit(f"{name}: the results differ")
    ours = best(lambda: reader.read(raw, b""), seconds)
    rate = records / 1e6
    return sum(map(len, payloads)) // records, rate / ours, rate / best(parse, seconds), rate / best(columns, seconds)


def main() -> None:
    """Measures every shape and prints a table."""
    parser = argparse.ArgumentParser(description="Protobuf to columns against google.protobuf, one thread")
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    options = parser.parse_args()
    print("| shape | bytes | columns M/s | google: parse | ratio | google: columns | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in _SHAPES:
        size, ours, parse, columns = measure(name, options.records, options.seconds)
        ratios = f"{parse:.2f} | {ours / parse:.1f}× | {columns:.3f} | {ours / columns:.0f}×"
        print(f"| {name} | {size} | {ours:.2f} | {ratios} |")


if __name__ == "__main__":
    main()
