"""One Nexmark query of the benchmark on Thalweg, from Kafka to Kafka; settings come by `BENCH_…` variables."""

from __future__ import annotations

import os

from benchmarks.nexmark.queries import Streams
from benchmarks.nexmark.workload import WORKLOAD
from thalweg import App

bootstrap, prefix, sink, query = (os.environ[f"BENCH_{name}"] for name in ("BOOTSTRAP", "PREFIX", "OUTPUT", "QUERY"))

app = App(f"bench-{sink}", broker=f"kafka://{bootstrap}", guarantee=os.environ.get("BENCH_GUARANTEE", "exactly-once"))
stream = WORKLOAD[query].build(Streams.of(app, prefix=prefix))
stream.to(sink, changes=True)
app.run()
