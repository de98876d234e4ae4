"""How soon a killed job is back: kill -9 of the Kafka → window → Kafka job, restart in the same slot, first output.

python benchmarks/recovery.py [--kills 20]      writes benchmarks/results/recovery.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reliability import crash  # noqa: E402

from benchmarks.spine.harness import machine  # noqa: E402
from thalweg.kafka.local_cluster import LocalKafka  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    with LocalKafka() as kafka:
        outcome = crash.run_with_kills(kafka.bootstrap, "recovery", kills)
    results, late = crash.expected(crash.readings(20_000 * (kills * 4 + 5), 20_000))
    equal = outcome.results.drop("average").equals(results.drop("average")) and outcome.late == late
    times = outcome.restarts
    result = {
        "machine": machine(),
        "kills": kills,
        "output_equal": equal,
        "restart_to_first_output_seconds": {
            "median": statistics.median(times[1:]), "max": max(times[1:]), "first_start": times[0],
        },
    }  # fmt: skip
    (ROOT / "benchmarks/results/recovery.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
