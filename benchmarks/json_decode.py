"""JSON to columns and back, on one thread, against Polars' `read_ndjson` and `write_ndjson`.

    python benchmarks/json_decode.py [--records N] [--seconds S] [--json FILE]

Polars gets one thread (POLARS_MAX_THREADS=1, set before it is imported) and the schema, so that it infers nothing; it
reads one newline-joined buffer, Thalweg separate records. Both results are compared before any time counts: equal
values, floats bit for bit. Figures are the best of the runs that fit into the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np
import polars as pl

from thalweg.formats.json import warm_up
from thalweg.formats.json.decoder import JsonDecoder
from thalweg.formats.json.encoder import JsonEncoder
from thalweg.records import RawRecords

Shape = tuple[dict[str, Any], Callable[[random.Random, int], dict[str, Any]]]


def sensor(rng: random.Random, i: int) -> dict[str, Any]:
    """The reading of the spine's job: 4 fields, about 90 bytes, rounded floats."""
    return {
        "sensor_id": f"sensor-{rng.randrange(1000)}",
        "ts": 1_700_000_000_000 + i,
        "temperature": round(rng.uniform(-20, 120), 2),
        "humidity": round(rng.uniform(0, 100), 2),
    }


def precise(rng: random.Random, i: int) -> dict[str, Any]:
    """The same with floats of 15 to 17 digits, as `random()` gives them."""
    return sensor(rng, i) | {"temperature": rng.uniform(-20, 120), "humidity": rng.uniform(0, 100)}


def order(rng: random.Random, i: int) -> dict[str, Any]:
    """10 fields: strings short and long, a time, a boolean, nulls."""
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
        "at": i,
    }


def escaped(rng: random.Random, i: int) -> dict[str, Any]:
    """The sensor record with a note, of which 10 % have escapes."""
    note = f'said "{rng.randrange(100)}"\nand left' if rng.random() < 0.1 else f"nothing to say, {rng.randrange(100)}"
    return sensor(rng, i) | {"note": note}


_SENSOR = {"sensor_id": pl.String, "ts": pl.Int64, "temperature": pl.Float64, "humidity": pl.Float64}
_ORDER = {
    "id": pl.String, "user": pl.String, "country": pl.String, "path": pl.String, "amount": pl.Float64,
    "quantity": pl.Int64, "express": pl.Boolean, "coupon": pl.String, "agent": pl.String, "at": pl.Int64,
}  # fmt: skip
SHAPES: dict[str, Shape] = {
    "sensor, 4 fields": (_SENSOR, sensor),
    "sensor, 17-digit floats": (_SENSOR, precise),
    "order, 10 fields": (_ORDER, order),
    "sensor and note, 10 % escaped": (_SENSOR | {"note": pl.String}, escaped),
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
    """The shortest of the runs that fit into the time, at least three."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, records: int, seconds: float) -> dict[str, Any]:
    """One shape: rates in million records per second, and the ratios."""
    schema, make = SHAPES[name]
    rng = random.Random(7)
    payloads = [json.dumps(make(rng, i)).encode() for i in range(records)]
    joined, raw = b"\n".join(payloads), raw_records(payloads)
    decoder, encoder = JsonDecoder(schema), JsonEncoder()
    frame = decoder.decode(raw).frame
    if not frame.equals(pl.read_ndjson(joined, schema=schema), null_equal=True):
        raise SystemExit(f"{name}: the results differ")
    back = encoder.encode(frame)
    if [json.loads(line) for line in frame.write_ndjson().splitlines()] != [
        json.loads(back.data[a:b].tobytes()) for a, b in zip(back.offsets[:-1], back.offsets[1:], strict=True)
    ]:
        raise SystemExit(f"{name}: the written records differ")
    ours = best(lambda: decoder.decode(raw), seconds)
    polars = best(lambda: pl.read_ndjson(joined, schema=schema), seconds)
    written = best(lambda: encoder.encode(frame), seconds)
    polars_written = best(lambda: frame.write_ndjson(None), seconds)
    rate = records / 1e6
    return {
        "shape": name,
        "bytes": len(joined) // records,
        "decode": rate / ours,
        "read_ndjson": rate / polars,
        "decode_ratio": polars / ours,
        "encode": rate / written,
        "write_ndjson": rate / polars_written,
        "encode_ratio": polars_written / written,
    }


def main() -> None:
    """Measures every shape and prints a table; rates are in million records per second."""
    parser = argparse.ArgumentParser(description="JSON to columns and back against Polars, one thread")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    print("loading the kernels …", file=sys.stderr)
    warm_up()
    results = [measure(name, options.records, options.seconds) for name in SHAPES]
    print("| shape | bytes | decode M/s | read_ndjson | ratio | encode M/s | write_ndjson | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        print(
            f"| {r['shape']} | {r['bytes']} | {r['decode']:.2f} | {r['read_ndjson']:.2f} | {r['decode_ratio']:.1f}× "
            f"| {r['encode']:.2f} | {r['write_ndjson']:.2f} | {r['encode_ratio']:.1f}× |"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
