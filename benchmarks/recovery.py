"""How soon a killed job is back: kill -9 of the Kafka → window → Kafka job, restart in the same slot, first output.

python benchmarks/recovery.py [--kills 20]      writes benchmarks/results/recovery.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reliability import crash  # noqa: E402

from benchmarks.spine.harness import machine  # noqa: E402
from thalweg.kafka.local_cluster import LocalKafka  # noqa: E402


def differences(outcome: crash.Outcome, results: pl.DataFrame, late: int) -> str | None:
    """None where the output is that of an undisturbed run (floats within 1e-9), else what is not."""
    joined = results.join(outcome.results, on=["sensor_id", "window_start"], how="full", suffix="_got")
    missing, extra = joined["n_got"].null_count(), joined["n"].null_count()
    near = (pl.col("average") - pl.col("average_got")).abs() <= 1e-9 * pl.col("average").abs()
    off = joined.filter((pl.col("n") != pl.col("n_got")) | ~near).height
    if (missing, extra, off, outcome.results.height, outcome.late) == (0, 0, 0, results.height, late):
        return None
    twice = outcome.results.height - outcome.results.unique(["sensor_id", "window_start"]).height
    return f"{missing} missing, {extra} unexpected, {twice} twice, {off} other; {outcome.late} late, {late} expected"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    with LocalKafka() as kafka:
        outcome = crash.run_with_kills(kafka.bootstrap, "recovery", kills)
    results, late = crash.expected(crash.readings(20_000 * (kills * 4 + 5), 20_000))
    different = differences(outcome, results, late)
    times = outcome.restarts
    result = {
        "machine": machine(),
        "kills": kills,
        "output_equal": different is None,
        "difference": different,
        "restart_to_first_output_seconds": {
            "median": statistics.median(times[1:]), "max": max(times[1:]), "first_start": times[0],
        },
    }  # fmt: skip
    (ROOT / "benchmarks/results/recovery.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
