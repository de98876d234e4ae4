"""State that leaves memory: the same frames come back, memory stays within its limit, nothing is left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.servers.redis import RedisServer
from tests.unit.process.test_process import Everything, events, expected

from thalweg.errors import ConfigurationError, MissingExtraError, StateError
from thalweg.streams import App, StateBackend
from thalweg.streams.state.cold import DiskStore, RedisStore, RocksStore
from thalweg.streams.state.pool import ColdStore, StatePool, using
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.runs import Runs
from thalweg.streams.testing import TestDriver


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["disk", "rocksdb", "redis"])
def store(request: Any, tmp_path: Path) -> Iterator[ColdStore]:
    made: ColdStore
    if request.param == "disk":
        made = DiskStore(tmp_path / "spill")
    elif request.param == "rocksdb":
        made = RocksStore(tmp_path / "rocks")
    else:
        made = RedisStore(request.getfixturevalue("redis_server").url, "thalweg:test-0")
    yield made
    made.close()


def test_a_store_keeps_bytes(store):
    payloads = {number: bytes([number % 256]) * (number * 1000) for number in range(1, 40)}
    for number, payload in payloads.items():
        store.put(number, payload)
    assert {number: store.get(number) for number in payloads} == payloads
    store.drop([3, 4])
    with pytest.raises(StateError, match="gone"):
        store.get(3)
    assert store.get(5) == payloads[5]


def frame_of(number: int, rows: int = 1000) -> pl.DataFrame:
    return pl.DataFrame({"n": np.arange(rows) + number, "s": [f"text {number} {i}" for i in range(rows)]})


def test_frames_leave_memory_and_come_back(store):
    size = frame_of(0).estimated_size()
    pool = StatePool(int(3 * size), store)
    cells = [pool.hold(frame_of(number)) for number in range(20)]
    assert pool.resident_bytes <= 3.5 * size
    assert sum(cell.resident for cell in cells) <= 3
    for _ in range(2):
        for number, cell in enumerate(cells):
            assert cell.load().equals(frame_of(number))
            assert pool.resident_bytes <= 3.5 * size
    written = pool.spilled_bytes
    assert written < 21 * size, "a frame is written once"
    del cells, cell
    gc.collect()
    for number in range(100, 170):
        pool.hold(frame_of(number, 200))
    assert pool.resident_bytes <= 3.5 * size


def test_a_damaged_frame_is_an_error(tmp_path):
    store = DiskStore(tmp_path / "spill")
    pool = StatePool(1, store)
    first, _second = pool.hold(frame_of(1)), pool.hold(frame_of(2))
    assert not first.resident
    for path in (tmp_path / "spill").rglob("*.arrow"):
        path.write_bytes(b"nothing")
    with pytest.raises(StateError, match="can't be read back"):
        first.load()


def test_row_stores_and_logs_are_the_same_in_small_memory(store):
    pool = StatePool(20_000, store)
    with using(pool):
        small, runs = RowStore(), Runs(lambda frames: pl.concat(frames).group_by("k").agg(pl.col("v").sum()), ["k"])
    large = RowStore()
    dice = np.random.default_rng(1)
    for rows in (small, large):
        rows.reserve(30_000)
    totals: dict[int, int] = {}
    for turn in range(25):
        slots = dice.choice(30_000, 2_000, replace=False)
        frame = pl.DataFrame({SLOT: np.sort(slots), "v": dice.integers(0, 9, 2_000), "t": [f"turn {turn}"] * 2_000})
        small.write(frame)
        large.write(frame)
        part = pl.DataFrame({"k": slots % 500, "v": np.ones(2_000, dtype=np.int64)})
        runs.append(part)
        for key, value in part.group_by("k").agg(pl.col("v").sum()).iter_rows():
            totals[key] = totals.get(key, 0) + value
        asked = dice.choice(30_000, 500, replace=False)
        found, right = small.read(asked), large.read(asked)
        assert (found is None) == (right is None)
        if found is not None and right is not None:
            assert found.sort(SLOT).equals(right.select(found.columns).sort(SLOT))
    held = pl.concat(runs.all_frames()).group_by("k").agg(pl.col("v").sum())
    assert dict(held.iter_rows()) == totals
    assert pool.spilled_bytes > 0
    assert pool.loaded_bytes > 0


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_process_gives_the_same_with_all_state_outside(store, batch_size):
    stream = App("p").stream("in", timestamp="t", watermark=20).key_by("k").process(Everything)
    fives = stream.port("fives")
    rows = events(150, 5)
    with using(StatePool(1, store)):
        driver = TestDriver(stream, fives, batch_size=batch_size)
        driver.send(rows[:70])
        driver.restore(driver.snapshot(full=True))
        driver.send(rows[70:])
        driver.advance_watermark(10**6)
    found = driver.output(stream, reserved=True).select("k", "total", "recent", "before", "__ts").rows()
    assert sorted(found, key=str) == expected(rows, 10**6)[0]


def test_backends_say_what_they_are():
    backend = StateBackend.redis("redis://user:secret@host:6379/0", memory_limit="1MiB", ttl="1h")
    assert "secret" not in repr(backend)
    assert (backend.memory_limit, backend.ttl) == (2**20, 3_600_000)
    assert StateBackend.memory().open("job").limit is None
    for wrong, says in [
        (lambda: StateBackend.redis("localhost"), "takes redis://"),
        (lambda: StateBackend.rocksdb(""), "path of a folder"),
        (lambda: StateBackend.memory(limit="lots"), "is not a size"),
        (lambda: StateBackend.memory(limit=0), "at least 1 byte"),
        (lambda: StateBackend.memory(spill_to="x"), "needs a limit"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            wrong()


def test_a_missing_package_or_server_is_told(monkeypatch, tmp_path):
    with pytest.raises(StateError, match=r"can't reach Redis at redis://127\.0\.0\.1:1/0"):
        StateBackend.redis("redis://127.0.0.1:1/0").open("job")
    for name, extra in [("rocksdict", "rocksdb"), ("redis", "redis")]:
        monkeypatch.setitem(__import__("sys").modules, name, None)
        backend = StateBackend.redis("redis://127.0.0.1:1/0") if name == "redis" else StateBackend.rocksdb("x")
        with pytest.raises(MissingExtraError, match=rf"thalweg\[{extra}\]"):
            backend.open("job")


def test_what_an_earlier_run_left_is_removed(tmp_path, redis_server):
    import redis

    client = redis.Redis.from_url(redis_server.url)
    client.set("thalweg:job-0:dead:7", b"old")
    client.set("thalweg:job-01:other:7", b"another job's")
    pool = StateBackend.redis(redis_server.url, memory_limit=1).open("job")
    assert client.get("thalweg:job-0:dead:7") is None
    cells = [pool.hold(frame_of(number)) for number in range(3)]
    assert client.keys("thalweg:job-0:*")
    pool.close()
    assert client.keys("thalweg:job-0:*") == []
    assert client.get("thalweg:job-01:other:7") == b"another job's"
    assert len(cells) == 3
    dead, other = tmp_path / "job-0" / "dead", StateBackend.memory(limit=1, spill_to=str(tmp_path)).open("job")
    dead.mkdir()
    (dead / "junk").write_bytes(b"x")
    os.utime(dead, (0, 0))
    held = [other.hold(frame_of(number)) for number in range(3)]
    disk = StateBackend.memory(limit=1, spill_to=str(tmp_path)).open("job")
    assert not dead.exists()
    assert held[0].load().equals(frame_of(0)), "a run that lives keeps its own"
    disk.close()
    other.close()
    assert not (tmp_path / "job-0").exists()
