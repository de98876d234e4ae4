"""Apache Kafka on this machine, for tests, benchmarks and trying things out: real brokers, gone afterwards."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import _watchdog
from thalweg.kafka._local_install import KAFKA_VERSION, Runtime, find_runtime

_LOWEST_PORT, _HIGHEST_PORT = 15_000, 30_000
"""Below the range from which systems take ports for outgoing connections: a killed broker's stays free for it."""
_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "1",
    # Records carry event times; a test's may be years old, and would be gone at the first look of the log cleaner.
    "log.retention.ms": "-1",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(16 * 1024 * 1024),
    "replica.fetch.max.bytes": str(16 * 1024 * 1024),
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "controlled.shutdown.enable": "false",
    # A killed broker may register again only after its old session has ended.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
}
_OPTIONS = ["-XX:+UseG1GC", "-XX:-UsePerfData", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
_QUICK = ["-XX:TieredStopAtLevel=1"]
_TOOL_OPTIONS = ["-Xmx128m", *_QUICK, *_OPTIONS[1:]]


class LocalKafka:
    """One or more KRaft brokers on 127.0.0.1, data in a temporary folder; ended with this process.

    Args:
        brokers: how many; topics of the brokers' own have up to three replicas.
        version: of Apache Kafka, fetched once into the user's cache folder.
        heap: Java heap of each broker.
        settings: server properties beside, or instead of, those that suit tests (such as `message.max.bytes`).
        owner: process id; the brokers end with it. Default: this process.
        fast_start: only Java's quick compiler: up in 3 s instead of 5, with less throughput later.
        start_timeout: seconds.

    Raises:
        ConnectorError: nothing to run it on, or the broker did not come up (with the end of its log).

    >>> with LocalKafka() as kafka:                                                      # doctest: +SKIP
    ...     print(kafka.bootstrap)
    127.0.0.1:23817
    """

    def __init__(
        self,
        brokers: int = 1,
        *,
        version: str = KAFKA_VERSION,
        heap: str = "768m",
        settings: Mapping[str, str] | None = None,
        owner: int | None = None,
        fast_start: bool = False,
        start_timeout: float = 90.0,
    ) -> None:
        if brokers < 1:
            raise ConfigurationError(f"brokers is {brokers}; at least one is needed")
        if sys.platform == "win32":
            raise ConfigurationError("local brokers run on Linux and macOS; on Windows use WSL or a broker in Docker")
        self.count = brokers
        self.folder = Path()
        self._version = version
        self._owner = owner if owner is not None else os.getpid()
        self._settings = dict(settings or {})
        self._timeout = start_timeout
        self._options = [f"-Xms{heap}", f"-Xmx{heap}", *_OPTIONS, *(_QUICK if fast_start else ())]
        self._ports = _free_ports(2 * brokers)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._runtime: Runtime | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of every broker, separated by commas."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports[: self.count])

    def start(self) -> LocalKafka:
        """Starts all brokers and waits until they answer."""
        self._runtime = find_runtime(self._version)
        self.folder = Path(tempfile.mkdtemp(prefix="thalweg-kafka-"))
        command = [sys.executable, "-IS", _watchdog.__file__, str(self._owner), str(self.folder)]
        self._watchdog = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self._stop_at_exit, os.getpid())
        try:
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            for index in range(self.count):
                self._format(index, cluster)
            for index in range(self.count):
                self._launch(index)
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self, index: int = 0) -> None:
        """kill -9 of one broker."""
        process = self._processes.pop(index, None)
        if process is None:
            raise ConfigurationError(f"broker {index} is not running")
        self._end(index, process, signal.SIGKILL)

    def pause(self, index: int = 0) -> None:
        """The broker stops answering but keeps its connections, as behind a network fault."""
        self._processes[index].send_signal(signal.SIGSTOP)

    def resume(self, index: int = 0) -> None:
        """Ends a `pause`."""
        self._processes[index].send_signal(signal.SIGCONT)

    def restart(self, index: int = 0) -> None:
        """Starts a killed broker (kills a running one first): same port, same data; waits until it answers."""
        if index in self._processes:
            self.kill(index)
        self._launch(index)
        self._wait_until_up()

    def stop(self) -> None:
        """Ends all brokers and removes their data. The data is of no further use, so they are not asked politely."""
        for index in list(self._processes):
            self.kill(index)
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            self._watchdog = None
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self._stop_at_exit)

    def detach(self) -> None:
        """Leaves the brokers to their watchdog: they end with `owner`, not with this object or process."""
        atexit.unregister(self._stop_at_exit)
        self._processes.clear()
        self._watchdog = None

    def log(self, index: int = 0) -> str:
        """What the broker has written: warnings and errors."""
        file = self._data(index) / "log.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    def __enter__(self) -> LocalKafka:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _stop_at_exit(self, pid: int) -> None:
        if os.getpid() == pid:  # a forked child has inherited the registration, not the brokers
            self.stop()

    def _data(self, index: int) -> Path:
        return self.folder / f"broker-{index}"

    def _name(self, index: int) -> str:
        return f"{self.folder.name}-{index}"

    def _format(self, index: int, cluster: str) -> None:
        data = self._data(index)
        data.mkdir()
        properties = data / "server.properties"
        lines = {**_SETTINGS, **self._replication(), **self._addresses(index), **self._settings}
        properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        assert self._runtime is not None
        arguments = ["format", f"--cluster-id={cluster}", "-c", str(properties)]
        command = self._runtime.command(
            f"{self._name(index)}-format", self.folder, _TOOL_OPTIONS, "kafka.tools.StorageTool", arguments
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConnectorError(f"can't format the broker's storage:\n{(done.stdout + done.stderr)[-2000:]}")

    def _replication(self) -> dict[str, str]:
        replicas = min(self.count, 3)
        return {
            "default.replication.factor": str(replicas),
            "offsets.topic.replication.factor": str(replicas),
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(max(1, replicas - 1)),
        }

    def _addresses(self, index: int) -> dict[str, str]:
        clients, controllers = self._ports[: self.count], self._ports[self.count :]
        voters = ",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(controllers))
        return {
            "node.id": str(index),
            "log.dirs": str(self._data(index) / "data"),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{clients[index]},CONTROLLER://127.0.0.1:{controllers[index]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{clients[index]}",
        }

    def _launch(self, index: int) -> None:
        data = self._data(index)
        assert self._runtime is not None
        arguments = [str(data / "server.properties")]
        command = self._runtime.command(self._name(index), self.folder, self._options, "kafka.Kafka", arguments)
        with (data / "log.txt").open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we end the broker when we are done with it.
            process = subprocess.Popen(
                command, cwd=data, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (data / "pid").write_text(str(process.pid))
        self._processes[index] = process

    def _end(self, index: int, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        assert self._runtime is not None
        self._runtime.kill(self._name(index))
        process.send_signal(how)
        process.wait()
        (self._data(index) / "pid").unlink(missing_ok=True)

    def _wait_until_up(self) -> None:
        """Until every running broker is known to the cluster and takes connections."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + self._timeout
        while not all(_listens(self._ports[index]) for index in self._processes):
            self._check_alive(deadline)
            time.sleep(0.1)
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": "0"})
        while True:
            with suppress(KafkaException):
                if len(admin.list_topics(timeout=2).brokers) >= len(self._processes):
                    return
            self._check_alive(deadline)
            time.sleep(0.1)

    def _check_alive(self, deadline: float) -> None:
        for index, process in self._processes.items():
            if process.poll() is not None:
                raise ConnectorError(f"broker {index} ended with {process.returncode}:\n{self.log(index)[-3000:]}")
        if time.monotonic() > deadline:
            logs = "\n".join(self.log(index)[-2000:] for index in self._processes)
            raise ConnectorError(f"the brokers did not answer within {self._timeout:.0f} s:\n{logs}")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randint(_LOWEST_PORT, _HIGHEST_PORT)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports
