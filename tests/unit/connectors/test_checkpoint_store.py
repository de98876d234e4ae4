"""Checkpoint stores, and the state epochs in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg import App
from thalweg.connectors.checkpoint_store import CheckpointStore, FolderStore, ObjectStore, open_store
from thalweg.connectors.kafka_changelog import ChangelogWriter, Tip
from thalweg.connectors.kafka_checkpoints import CheckpointLog
from thalweg.errors import ConfigurationError, StateError
from thalweg.streams.connector import StateRecord


@pytest.fixture(params=["folder", "pyarrow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStore:
    if request.param == "folder":
        return FolderStore(tmp_path)
    from pyarrow import fs

    return ObjectStore(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "jobs")


def test_objects_are_there_as_a_whole_or_not_at_all(store: CheckpointStore) -> None:
    assert store.get("a/1") is None
    assert store.names("a") == store.folders("") == []
    if isinstance(store, ObjectStore):
        store._filesystem.create_dir("jobs/a")  # an object store needs no folders
    store.put("a/2", b"two")
    store.put("a/1", b"one")
    assert store.names("a") == ["1", "2"]
    assert store.folders("") == ["a"]
    assert store.get("a/2") == b"two"
    store.delete(["a/2", "a/2"])
    assert store.names("a") == ["1"]


def write(log: CheckpointLog, writer: ChangelogWriter, *payloads: bytes, full: bool = False) -> Tip:
    """Commits one epoch of state partition 3 with a record of each operator."""
    states = [StateRecord(3, f"op-{i}", payload, full) for i, payload in enumerate(payloads)]
    chunks = writer.prepare(states, {3: writer.next_epoch(3)})
    log.write(chunks, {p: tip.name for p, tip in writer.tips().items()})
    log.prune(writer.advance())
    return writer.tips()[3]


def test_an_epoch_is_restored_with_all_that_it_builds_on(tmp_path: Path) -> None:
    log = CheckpointLog(FolderStore(tmp_path), "job")
    writer = ChangelogWriter("w1")
    write(log, writer, b"base-0", b"base-1")
    tip = write(log, writer, b"delta-0")
    dead = ChangelogWriter("w2")  # a worker that died before its offsets were committed
    dead.resume(3, tip.name, log.read({3: tip})[3].bases)
    write(log, dead, b"never")
    later = write(log, writer, b"more-0", b"x" * 2_000_000)
    restored = log.read({3: later})[3]
    assert [(s.operator_id, s.payload[:7]) for s in restored.states] == [
        ("op-0", b"base-0"), ("op-1", b"base-1"), ("op-0", b"delta-0"), ("op-0", b"more-0"), ("op-1", b"x" * 7),
    ]  # fmt: skip
    assert len(restored.states[-1].payload) == 2_000_000
    assert log.highest_epoch() == 3


def test_what_a_full_snapshot_supersedes_is_deleted(tmp_path: Path) -> None:
    log = CheckpointLog(FolderStore(tmp_path), "job")
    writer = ChangelogWriter("w1")
    for number in range(5):
        write(log, writer, b"%d" % number)
    tip = write(log, writer, b"all", full=True)
    log.close()
    assert [path.name for path in (tmp_path / "job/00003").iterdir()] == ["000000000006-w1"]
    assert [s.payload for s in CheckpointLog(FolderStore(tmp_path), "job").read({3: tip})[3].states] == [b"all"]


@pytest.mark.parametrize("lost", ["000000000001-w1", "000000000002-w1", "000000000003-w1"])
def test_a_missing_epoch_is_an_error_never_empty_state(tmp_path: Path, lost: str) -> None:
    log = CheckpointLog(FolderStore(tmp_path), "job")
    writer = ChangelogWriter("w1")
    tip = [write(log, writer, b"state") for _ in range(3)][-1]
    (tmp_path / "job/00003" / lost).unlink()
    with pytest.raises(StateError, match="is missing, and the committed offsets build on it"):
        log.read({3: tip})


def test_a_damaged_epoch_is_an_error(tmp_path: Path) -> None:
    log = CheckpointLog(FolderStore(tmp_path), "job")
    tip = write(log, ChangelogWriter("w1"), b"state")
    (path,) = (tmp_path / "job/00003").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StateError, match="is damaged"):
        log.read({3: tip})
    path.write_bytes(b"what?")
    with pytest.raises(StateError, match="is not a state epoch"):
        log.read({3: tip})


@pytest.mark.parametrize("url", ["/tmp/state", "file://host/x", "file:///", "s3:///prefix", "nothing://x/y"])
def test_a_url_that_can_not_work_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="checkpoint_storage"):
        open_store(url)


def test_the_embedded_log_keeps_its_own_state(tmp_path: Path) -> None:
    app = App("job", broker=f"sqlite:///{tmp_path}/data.db", checkpoint_storage="file:///tmp/state")
    app.stream("in").to("out")
    with pytest.raises(ConfigurationError, match="leave checkpoint_storage out"):
        app.run(until_caught_up=True)
