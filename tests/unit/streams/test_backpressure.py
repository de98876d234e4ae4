"""A sink that stalls: reading stops, memory stays as it is, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.unit.streams.memory_broker import MemoryBroker

from thalweg.streams import App, CheckpointConfig
from thalweg.streams.connector import Commit
from thalweg.streams.engine.status import JobStatus

ROWS = 60_000
BATCH = 500


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_stays_flat_while_a_sink_stalls_and_nothing_is_lost() -> None:
    broker = MemoryBroker()
    broker.batch_rows = BATCH
    broker.put("in", [{"t": i, "v": i} for i in range(ROWS)])
    go_on = threading.Event()

    def stall(step: str, commit: Commit) -> None:
        if step == "prepared":
            assert go_on.wait(250)

    broker.fail = stall
    app = App("stalled", broker=broker, max_batch_rows=BATCH, checkpoint=CheckpointConfig(timeout="20m"))
    app.stream("in", timestamp="t", max_ahead=None).to("out")
    job = threading.Thread(target=app.run, kwargs={"until_caught_up": True})
    job.start()
    wait_for(lambda: app.status().pressure.stalled and app.status().pressure.queued_rows >= 4 * BATCH)
    seen: list[JobStatus] = []
    for _ in range(15):
        time.sleep(0.1)
        seen.append(app.status())
    go_on.set()
    job.join(200)
    pressures = [status.pressure for status in seen]
    assert all(p.stalled for p in pressures)
    assert all(p.pending_limit < p.pending_rows <= p.pending_limit + BATCH for p in pressures)
    assert all(p.queued_limit <= p.queued_rows <= p.queued_limit + BATCH for p in pressures)
    assert len({(s.received, s.pressure.pending_bytes, s.pressure.queued_bytes) for s in seen[3:]}) == 1
    assert pressures[-1].stalled_ms > pressures[0].stalled_ms > 0
    assert seen[-1].received < ROWS / 4
    assert app.status().state == "stopped"
    assert not app.status().pressure.stalled
    assert broker.output("out")["v"].to_list() == list(range(ROWS))
