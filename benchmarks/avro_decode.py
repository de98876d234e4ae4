"""Avro to columns and back, against fastavro's `schemaless_reader` and `schemaless_writer`, one thread each.

    python benchmarks/avro_decode.py [--records N] [--seconds S] [--json FILE]

Both results are compared first. fastavro gives a dict for each record: making columns of those is not in its time.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from thalweg.formats.avro import AvroDecoder, AvroEncoder, warm_up
from thalweg.records import RawRecords


def _record(title: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": title, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


_SENSOR = _record("Sensor", sensor_id="string", ts="long", temperature="double", humidity="double")
_ORDER = _record(
    "Order",
    id="string",
    user="string",
    country={"type": "enum", "name": "Country", "symbols": ["DE", "AT", "CH", "FR"]},
    path="string",
    amount="double",
    quantity="int",
    express="boolean",
    coupon=["null", "string"],
    agent="string",
    at={"type": "long", "logicalType": "timestamp-millis"},
)
_NESTED = _record(
    "Trip",
    id="string",
    start=_record("Place", lat="double", lon="double"),
    end=["null", "Place"],
    stops={"type": "array", "items": _record("Stop", name="string", minutes="int")},
)


def sensor(rng: random.Random, i: int) -> dict[str, Any]:
    """4 fields, 35 bytes."""
    return {
        "sensor_id": f"sensor-{rng.randrange(1000):04d}",
        "ts": 1_700_000_000_000 + i,
        "temperature": rng.uniform(-20, 120),
        "humidity": rng.uniform(0, 100),
    }


def order(rng: random.Random, i: int) -> dict[str, Any]:
    """10 fields: strings short and long, an enum, a time, a boolean, nulls."""
    return {
        "id": f"{rng.getrandbits(128):032x}",
        "user": f"user-{rng.randrange(100_000)}",
        "country": rng.choice(["DE", "AT", "CH", "FR"]),
        "path": f"/shop/category-{rng.randrange(50)}/article-{rng.randrange(10_000)}",
        "amount": round(rng.expovariate(0.02), 2),
        "quantity": rng.randrange(1, 9),
        "express": rng.random() < 0.2,
        "coupon": None if rng.random() < 0.7 else "SPRING",
        "agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        "at": 1_700_000_000_000 + i,
    }


def trip(rng: random.Random, i: int) -> dict[str, Any]:
    """Two nested records, one of them optional, and an array of 0 to 4 records."""
    stops = [{"name": f"stop {n}", "minutes": rng.randrange(90)} for n in range(rng.randrange(5))]
    place = {"lat": rng.uniform(-90, 90), "lon": rng.uniform(-180, 180)}
    return {"id": f"trip-{i}", "start": place, "end": place if rng.random() < 0.8 else None, "stops": stops}


SHAPES: dict[str, tuple[Any, Callable[[random.Random, int], dict[str, Any]]]] = {
    "sensor, 4 fields": (_SENSOR, sensor),
    "order, 10 fields": (_ORDER, order),
    "trip, nested records and an array": (_NESTED, trip),
}


def raw_records(payloads: list[bytes]) -> RawRecords:
    """The payloads as a broker would hand them over."""
    data = np.frombuffer(b"".join(payloads), np.uint8)
    lengths = np.array([len(p) for p in payloads], np.int64)
    zeros = np.zeros(len(payloads), np.int64)
    addresses = (data.ctypes.data + np.cumsum(lengths) - lengths).astype(np.uint64)
    return RawRecords(
        "bench", addresses, lengths, zeros.astype(np.uint64), zeros - 1, zeros.astype(np.int32), zeros, zeros, data
    )


def best(job: Callable[[], object], seconds: float) -> float:
    """The CPU time of the shortest of the runs that fit into the time, at least three; other programs count less so."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop:
        start = time.thread_time()
        job()
        times.append(time.thread_time() - start)
    return min(times)


def measure(name: str, records: int = 100_000, seconds: float = 1.0) -> dict[str, Any]:
    """One shape: rates in million records per second, and the ratios."""
    import fastavro

    schema, make = SHAPES[name]
    parsed = fastavro.parse_schema(schema)
    rng = random.Random(7)
    rows = [make(rng, i) for i in range(records)]

    def write_all() -> list[bytes]:
        payloads = []
        for row in rows:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parsed, row)
            payloads.append(out.getvalue())
        return payloads

    def read_all() -> list[Any]:
        read, stream = fastavro.schemaless_reader, io.BytesIO
        return [read(stream(payload), parsed, None) for payload in payloads]

    payloads = write_all()
    raw, decoder, encoder = raw_records(payloads), AvroDecoder(schema), AvroEncoder(schema)
    frame = decoder.decode(raw).frame
    if frame.to_dicts() != read_all():
        raise SystemExit(f"{name}: the results differ")
    back = encoder.encode(frame)
    if [back.data[a:b].tobytes() for a, b in pairwise(back.offsets.tolist())] != payloads:
        raise SystemExit(f"{name}: the written records differ")
    ours, theirs = best(lambda: decoder.decode(raw), seconds), best(read_all, seconds)
    written, theirs_written = best(lambda: encoder.encode(frame), seconds), best(write_all, seconds)
    rate = records / 1e6
    return {
        "shape": name,
        "bytes": sum(map(len, payloads)) // records,
        "decode": rate / ours,
        "fastavro_decode": rate / theirs,
        "decode_ratio": theirs / ours,
        "encode": rate / written,
        "fastavro_encode": rate / theirs_written,
        "encode_ratio": theirs_written / written,
    }


def main() -> None:
    """Measures every shape and prints a table; rates are in million records per second."""
    parser = argparse.ArgumentParser(description="Avro to columns and back against fastavro, one thread")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    print("loading the kernels …", file=sys.stderr)
    warm_up()
    results = [measure(name, options.records, options.seconds) for name in SHAPES]
    print("| shape | bytes | decode M/s | fastavro | ratio | encode M/s | fastavro | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        decode = f"{r['decode']:.2f} | {r['fastavro_decode']:.2f} | {r['decode_ratio']:.1f}×"
        encode = f"{r['encode']:.2f} | {r['fastavro_encode']:.2f} | {r['encode_ratio']:.1f}×"
        print(f"| {r['shape']} | {r['bytes']} | {decode} | {encode} |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
