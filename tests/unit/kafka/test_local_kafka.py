"""What ends local brokers and what they run on, without starting one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import _local_install, _watchdog
from thalweg.kafka._local_install import ContainerRuntime, JavaRuntime, find_runtime
from thalweg.kafka.local_cluster import LocalKafka, _free_ports


def test_the_watchdog_ends_brokers_and_removes_their_data(tmp_path: Path) -> None:
    """With processes that only sleep in the place of owner and broker."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(250)"]
    owner, broker = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
    folder = tmp_path / "cluster"
    (folder / "broker-0" / "data").mkdir(parents=True)
    (folder / "broker-0" / "pid").write_text(str(broker.pid))
    watchdog = subprocess.Popen([sys.executable, "-IS", _watchdog.__file__, str(owner.pid), str(folder)])
    assert broker.poll() is None
    assert watchdog.poll() is None
    owner.kill()  # and not waited for: a zombie must count as gone
    assert watchdog.wait() == 0
    assert broker.wait() == -9
    assert not folder.exists()
    owner.wait()


def test_ports_are_free_different_and_below_those_of_outgoing_connections() -> None:
    ports = _free_ports(20)
    assert len(set(ports)) == 20
    assert all(15_000 <= port <= 30_000 for port in ports)


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        LocalKafka(0)
    with pytest.raises(ConfigurationError, match="not running"):
        LocalKafka().kill(0)


def test_without_java_or_docker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConnectorError, match="apt-get install maven default-jre-headless"):
        find_runtime()


def test_a_download_that_fails_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, code in (("java", "exit 0"), ("mvn", "echo no route to host; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConnectorError, match=r"(?s)Maven Central.*no route to host"):
        find_runtime(say=False)
    assert list((tmp_path / "cache" / "thalweg").iterdir()) == []


def test_docker_runs_the_same_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 28.0\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_local_install, "_is_debian_root", lambda: False)
    monkeypatch.setattr(_local_install.shutil, "which", lambda name: str(tmp_path / name) if name == "docker" else None)
    runtime = find_runtime("4.1.0")
    assert isinstance(runtime, ContainerRuntime)
    inside = runtime.command("b0", tmp_path, ["-Xmx1g"], "kafka.Kafka", ["server.properties"])
    outside = JavaRuntime("java", tmp_path).command("b0", tmp_path, ["-Xmx1g"], "kafka.Kafka", ["server.properties"])
    assert inside[-2:] == outside[-2:] == ["kafka.Kafka", "server.properties"]
    assert "apache/kafka:4.1.0" in inside
