"""Rules that watch states: 1,000 of them at once, on one core.

    python -m benchmarks.alert_states [--rules 1000] [--events 200000] [--hosts 1000] [--batch 10000]

Hosts send a load, a temperature and a rate in one event, 100 events per millisecond of event time. The rules have drawn
thresholds: a third each must hold and end by themselves, have a second condition that ends them (`clear`), or must hold
for long; one in fifty tells of what is missing; all by host. A condition holds on about one event in a hundred, at
random: states begin and end all the time. Alerts are decided and stored in SQLite; snapshots are taken as a job takes
them at each commit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one core means one

import numpy as np
import polars as pl

from thalweg.alerts import AlertManager, AlertRule
from thalweg.alerts.states import StateTracker
from thalweg.streams.batch import OFFSET, PARTITION, TIMESTAMP, WATERMARK

RATE = 100
"""Events per ms of event time."""


def loads(count: int, hosts: int, seed: int = 1) -> pl.DataFrame:
    """Events of hosts, in the order of time."""
    dice = np.random.default_rng(seed)
    times = np.arange(count) // RATE
    return pl.DataFrame(
        {
            "host": np.char.add("host-", dice.integers(0, hosts, count).astype(str)),
            "cpu": dice.random(count) * 100,
            "heat": dice.random(count) * 100,
            "rate": dice.random(count) * 1_000,
            TIMESTAMP: times,
            WATERMARK: times - 1,
            PARTITION: pl.Series(np.zeros(count), dtype=pl.Int32),
            OFFSET: np.arange(count),
        }
    )


def watching(count: int) -> list[AlertRule]:
    """Drawn rules, the same each time."""
    dice = random.Random(1)
    found = []
    for number in range(count):
        level = 90 + dice.random() * 2
        condition = f"cpu > {level:.3f} && heat > {dice.choice([88, 90, 92])} && rate < {900 + number % 100}"
        settings: list[dict[str, object]] = [
            {"hold": "1m", "auto_resolve": True},
            {"hold": "30s", "clear": f"cpu < {level - 20:.3f}", "auto_resolve": "1m"},
            {"hold": "5m"},
            {"condition": "cpu > 1", "absent": f"{1 + number % 9}m", "auto_resolve": True},
        ]
        chosen = settings[3 if number % 50 == 0 else number % 3]
        found.append(AlertRule(**{"id": f"r{number}", "name": "r", "condition": condition, "by": ["host"], **chosen}))  # type: ignore[arg-type]
    return found


def measure(rules: int, events: int, hosts: int, batch: int) -> dict[str, float]:
    """Events per second of processor time, snapshots included; and the share of conditions."""
    frame = loads(events, hosts)
    with tempfile.TemporaryDirectory() as folder:
        manager = AlertManager(f"sqlite:///{folder}/alerts.db", deliver=False)
        for rule in watching(rules):
            manager.add_rule(rule)
        tracker = StateTracker()
        warm = frame[:batch].with_columns(pl.col(TIMESTAMP) - 10**6, pl.col(WATERMARK) - 10**6)
        manager.process_frame(warm, tracker=StateTracker())
        compiled = manager._rule_set(frame, None)
        started = time.process_time()
        for part in frame.iter_slices(batch):
            compiled.verdicts(part)
        conditions = time.process_time() - started
        snapshots = 0.0
        alerts = 0
        started = time.process_time()
        for part in frame.iter_slices(batch):
            alerts += len(manager.process_frame(part, tracker=tracker)[0])
            alerts += len(manager.process_time(int(part[WATERMARK][-1]), tracker))
            at = time.process_time()
            tracker.snapshot(full=False)
            snapshots += time.process_time() - at
        used = time.process_time() - started
        manager.close()
    return {
        "rules": rules,
        "events": events,
        "hosts": hosts,
        "alerts": alerts,
        "states": len(tracker),
        "cpu_s": round(used, 3),
        "conditions_s": round(conditions, 3),
        "snapshots_s": round(snapshots, 3),
        "events_per_cpu_s": round(events / used),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rules", 1_000), ("events", 200_000), ("hosts", 1_000), ("batch", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
