"""A cluster that stays: several brokers on this machine that outlive the process that started them, with their data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._local_install import KAFKA_VERSION, JavaRuntime, find_runtime
from thalweg.kafka.local_cluster import LocalKafka

_FILE = "cluster.json"
_WEEK = str(7 * 24 * 60 * 60 * 1000)
_PATIENCE = 30.0
"""Seconds for a broker to end in peace."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """One broker: its process id, None where it does not run."""

    index: int
    address: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A cluster: `in_sync` counts the partitions all of whose replicas are in sync; None where it does not answer."""

    folder: Path
    bootstrap: str
    brokers: tuple[BrokerStatus, ...]
    topics: int | None = None
    partitions: int | None = None
    in_sync: int | None = None

    @property
    def running(self) -> int:
        """How many brokers run."""
        return sum(broker.pid is not None for broker in self.brokers)


class KeptCluster(LocalKafka):
    """Kafka brokers without Docker, for more than one program: `up` starts them, or those that have ended, with the
    same ports and data; `down` ends them. Replication factor 3, two replicas in sync at least, 12 partitions, snappy,
    7 days (with fewer brokers accordingly less).

    Args:
        folder: data, logs and settings of the brokers.

    Raises:
        ConfigurationError: other settings than the cluster in this folder has.

    >>> KeptCluster(Path("kafka-data")).up().bootstrap                                    # doctest: +SKIP
    '127.0.0.1:23817,127.0.0.1:17001,127.0.0.1:28230'
    """

    def __init__(
        self,
        folder: Path,
        *,
        brokers: int | None = None,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        version: str = KAFKA_VERSION,
    ) -> None:
        self._file = folder.resolve() / _FILE
        known = json.loads(self._file.read_text()) if self._file.exists() else {}
        count = brokers or known.get("brokers", 3)
        if known and count != known["brokers"]:
            raise ConfigurationError(
                f"{folder} holds a cluster of {known['brokers']} brokers, not {count}; end it with `down --purge` first"
            )
        replicas = min(count, 3)
        defaults = {
            "min.insync.replicas": str(max(1, replicas - 1)),
            "num.partitions": "12",
            "compression.type": "snappy",
            "log.retention.ms": _WEEK,
            "controlled.shutdown.enable": "true",
        }
        super().__init__(
            count, version=known.get("version", version), heap=heap, settings={**defaults, **(settings or {})}
        )
        self.folder = folder.resolve()
        if known:
            self._ports = known["ports"]

    # -- life

    def up(self) -> KeptCluster:
        """Starts the brokers that do not run, and waits until they answer; they go on when this process ends.

        Raises:
            ConnectorError: a broker did not come up (with the end of its log).
        """
        self._runtime = find_runtime(self._version)
        if not isinstance(self._runtime, JavaRuntime):
            raise ConnectorError("without Java use infrastructure/kafka-cluster/docker-compose.kafka.yml")
        if not self._file.exists():
            self._make()
        missing = [index for index in range(self.count) if self._pid(index) is None]
        try:
            for index in missing:
                self._launch(index)
            if missing:
                self._wait_until_up()
        except BaseException:
            for index in list(self._processes):
                self.kill(index)
            raise
        self._processes.clear()
        return self

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise ConfigurationError(f"{self.folder} is not empty, and holds no cluster; name another folder")
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        for index in range(self.count):
            self._format(index, cluster)
        known = {"brokers": self.count, "ports": self._ports, "version": self._version, "bootstrap": self.bootstrap}
        self._file.write_text(json.dumps(known, indent=2) + "\n")

    def down(self, *, purge: bool = False) -> int:
        """Ends the brokers, in peace where they do so within half a minute; how many ran.

        Args:
            purge: remove their data too.

        Raises:
            ConfigurationError: there is no cluster in the folder.
        """
        self._check_exists()
        pids = {index: pid for index in range(self.count) if (pid := self._pid(index)) is not None}
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while any(self._pid(index) is not None for index in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
        for index in pids:
            if (pid := self._pid(index)) is not None:
                os.kill(pid, signal.SIGKILL)
                psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
            (self._data(index) / "pid").unlink(missing_ok=True)
        if purge:
            shutil.rmtree(self.folder)
        return len(pids)

    def status(self, timeout: float = 5.0) -> ClusterStatus:
        """Which brokers run, and whether all replicas are in sync.

        Raises:
            ConfigurationError: there is no cluster in the folder.
        """
        self._check_exists()
        brokers = tuple(
            BrokerStatus(index, f"127.0.0.1:{self._ports[index]}", self._pid(index)) for index in range(self.count)
        )
        found = ClusterStatus(self.folder, self.bootstrap, brokers)
        metadata = self._metadata(timeout) if found.running else None
        if metadata is None:
            return found
        partitions = [p for topic in metadata.topics.values() for p in topic.partitions.values()]
        in_sync = sum(len(partition.isrs) == len(partition.replicas) for partition in partitions)
        topics = sum(not name.startswith("__") for name in metadata.topics)
        return ClusterStatus(self.folder, self.bootstrap, brokers, topics, len(partitions), in_sync)

    def _metadata(self, timeout: float) -> Any:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": "0"}).list_topics(timeout=timeout)
        except KafkaException:
            return None  # fewer than half of the brokers may run

    def _check_exists(self) -> None:
        if not self._file.exists():
            raise ConfigurationError(f"there is no cluster in {self.folder}; start one with `thalweg cluster up`")

    def _pid(self, index: int) -> int | None:
        """The broker's process: one with this number that runs with the broker's own settings, no other's."""
        try:
            pid = int((self._data(index) / "pid").read_text())
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return pid if str(self._data(index) / "server.properties") in process.cmdline() else None
        except (OSError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
