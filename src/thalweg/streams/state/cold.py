"""Cold stores: where state frames go that do not fit into memory. Each serves one run of one job, and starts empty."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from thalweg.errors import MissingExtraError, StateError

logger = logging.getLogger(__name__)


class DiskStore:
    """One file for each frame, in a folder of the run's own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._run = RunFolder(folder)
        self.folder = self._run.path

    def put(self, number: int, payload: bytes) -> None:
        try:
            self._path(number).write_bytes(payload)
        except OSError as error:
            raise StateError(f"can't spill state to {self.folder}: {error}") from error

    def get(self, number: int) -> bytes:
        try:
            return self._path(number).read_bytes()
        except OSError as error:
            raise StateError(f"spilled state is gone from {self.folder}: {error}") from error

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        self._run.close()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.arrow"


class RocksStore:
    """A RocksDB database in a folder of the run's own below `folder`. What it keeps is compressed already."""

    def __init__(self, folder: Path) -> None:
        try:
            from rocksdict import Options, Rdict, WriteOptions
        except ImportError as error:
            raise MissingExtraError(
                "StateBackend.rocksdb needs the package rocksdict: pip install 'thalweg[rocksdb]'"
            ) from error
        self._run = RunFolder(folder)
        self.folder = self._run.path
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        # Frames are large values that are written once and deleted whole: kept apart from the keys, they are never
        # copied by compaction.
        options.set_enable_blob_files(True)
        options.set_enable_blob_gc(True)
        options.set_max_open_files(256)
        try:
            self._database = Rdict(str(self.folder / "db"), options)
        except Exception as error:  # rocksdict raises bare exceptions
            self._run.close()
            raise StateError(f"can't open RocksDB in {self.folder}: {error}") from error
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # a run that ends leaves nothing: the durable state is elsewhere

    def put(self, number: int, payload: bytes) -> None:
        try:
            self._database.put(_key(number), payload, write_opt=self._unlogged)
        except Exception as error:
            raise StateError(f"RocksDB in {self.folder} refused a write: {error}") from error

    def get(self, number: int) -> bytes:
        try:
            payload = self._database.get(_key(number))
        except Exception as error:
            raise StateError(f"RocksDB in {self.folder} refused a read: {error}") from error
        if payload is None:
            raise StateError(f"state frame {number} is gone from RocksDB in {self.folder}")
        return bytes(payload)

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self._database.delete(_key(number), write_opt=self._unlogged)

    def close(self) -> None:
        self._database.close()
        self._run.close()


class RedisStore:
    """Keys `<prefix>:<run>:<number>` in a Redis server; each run has an id of its own.

    So an instance that was fenced off and still writes can't touch the state of the one that took over. What earlier
    runs of the same slot have left is deleted at the start.
    """

    def __init__(self, url: str, prefix: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtraError(
                "StateBackend.redis needs the package redis: pip install 'thalweg[redis]'"
            ) from error
        self._failure: type[Exception] = redis.RedisError
        self._client: Any = redis.Redis.from_url(url, socket_timeout=30, socket_connect_timeout=5)
        self._url = _without_password(url)
        self._all = prefix
        self._prefix = f"{prefix}:{uuid.uuid4().hex[:12]}"
        try:
            self._forget(f"{_escaped(prefix)}:*")
        except self._failure as error:
            raise StateError(f"can't reach Redis at {self._url} for state: {error}") from error

    def put(self, number: int, payload: bytes) -> None:
        try:
            self._client.set(self._name(number), payload)
        except self._failure as error:
            raise StateError(f"Redis at {self._url} refused state: {error}") from error

    def get(self, number: int) -> bytes:
        try:
            payload = self._client.get(self._name(number))
        except self._failure as error:
            raise StateError(f"Redis at {self._url} did not give state back: {error}") from error
        if payload is None:
            raise StateError(
                f"state frame {number} is gone from Redis at {self._url}: evicted (use maxmemory-policy noeviction), "
                "flushed, or another instance of the job has taken over"
            )
        return bytes(payload)

    def drop(self, numbers: list[int]) -> None:
        try:
            self._client.unlink(*(self._name(number) for number in numbers))
        except self._failure as error:
            raise StateError(f"Redis at {self._url} refused to delete state: {error}") from error

    def close(self) -> None:
        try:
            self._forget(f"{_escaped(self._prefix)}:*")
            self._client.close()
        except self._failure as error:  # the run is over: nothing depends on it, and the next start looks again
            logger.warning("Redis at %s: %s; working state under %s is left behind", self._url, error, self._prefix)

    def _forget(self, pattern: str) -> None:
        batch: list[bytes] = []
        for name in self._client.scan_iter(pattern, count=1000):
            batch.append(name)
            if len(batch) >= 1000:
                self._client.unlink(*batch)
                batch = []
        if batch:
            self._client.unlink(*batch)

    def _name(self, number: int) -> str:
        return f"{self._prefix}:{number}"


class RunFolder:
    """A new folder below one that runs of a job share; those that dead runs have left there are removed.

    A run holds a lock in its folder for as long as it lives: so an instance that was fenced off, or another job of the
    same name, keeps what is its own.
    """

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self.path = shared / uuid.uuid4().hex[:12]
        try:
            shared.mkdir(parents=True, exist_ok=True)
            for left in shared.iterdir():
                if left.is_dir() and _is_dead(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.path.mkdir()
            self._lock = (self.path / _LOCK).open("w")
            _take(self._lock)
        except OSError as error:
            raise StateError(f"can't make a folder for state in {shared}: {error}") from error

    def close(self) -> None:
        """Removes it, and the shared one where no other run is there."""
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # not empty: other runs are there
            self._shared.rmdir()


_LOCK = "lock"
_STARTS_WITHIN = 60
"""Seconds from a folder to the lock in it."""


def _is_dead(folder: Path) -> bool:
    """Whether no living run holds the lock of this folder."""
    try:
        with (folder / _LOCK).open("r+") as lock:
            return _take(lock)
    except FileNotFoundError:  # or one that is just being made
        return time.time() - folder.stat().st_mtime > _STARTS_WITHIN


def _take(lock: IO[str]) -> bool:
    """Locks a file until it is closed; false where another process, or another run of this one, has it."""
    try:
        import fcntl
    except ImportError:  # Windows does not delete files that are open, so nothing needs to be held
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in text)


def _without_password(url: str) -> str:
    head, _, tail = url.rpartition("@")
    return f"{head.split('://', 1)[0]}://…@{tail}" if head else url
