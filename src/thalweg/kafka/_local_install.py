"""What a local broker runs on: Kafka's jars from Maven Central and a Java runtime, or a container image."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from thalweg.errors import ConnectorError

KAFKA_VERSION = "4.1.0"
_SLF4J_VERSION = "1.7.36"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>thalweg</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


class Runtime(Protocol):
    """Starts a Java main class with Kafka's jars."""

    def command(self, name: str, folder: Path, options: list[str], main: str, arguments: list[str]) -> list[str]:
        """The command line; `folder` is where the process reads and writes, `name` is unique to it."""

    def kill(self, name: str) -> None:
        """Ends what a kill of the started process alone would leave behind."""


@dataclass(frozen=True)
class JavaRuntime:
    """Java on this machine."""

    java: str
    jars: Path

    def command(self, name: str, folder: Path, options: list[str], main: str, arguments: list[str]) -> list[str]:
        return [self.java, *options, "-cp", str(self.jars / "*"), main, *arguments]

    def kill(self, name: str) -> None:
        pass


@dataclass(frozen=True)
class ContainerRuntime:
    """The same Java command inside Apache Kafka's own image, on the host's network (Linux)."""

    docker: str
    image: str
    started: set[str] = field(default_factory=set)

    def command(self, name: str, folder: Path, options: list[str], main: str, arguments: list[str]) -> list[str]:
        self.started.add(name)
        user = f"{os.getuid()}:{os.getgid()}"
        container = ["run", "--rm", "--name", name, "--network", "host", "--user", user, "-v", f"{folder}:{folder}"]
        java = ["--entrypoint", "java", self.image, *options, "-cp", "/opt/kafka/libs/*", main, *arguments]
        return [self.docker, *container, *java]

    def kill(self, name: str) -> None:
        subprocess.run([self.docker, "kill", name], capture_output=True, check=False)


def find_runtime(version: str = KAFKA_VERSION, *, say: bool = True) -> Runtime:
    """Java with the jars of this Kafka version, downloaded once; else Docker.

    Where neither is there and this is Debian with root's rights, Debian's Maven and Java are installed, with a message.

    Raises:
        ConnectorError: nothing to run a broker on, or the download failed; says what to install.
    """
    cached = _cache_folder() / f"kafka-{version}"
    java = shutil.which("java")
    if java and cached.is_dir():
        return JavaRuntime(java, cached)
    if not (java and shutil.which("mvn")):
        if not _is_debian_root() and (docker := _working_docker()):
            return ContainerRuntime(docker, f"apache/kafka:{version}")
        _install_java(say)
        java = shutil.which("java")
        if not java:
            raise ConnectorError("installed a Java runtime, but there is no `java` on the PATH; check the PATH")
    _download(version, cached, say)
    return JavaRuntime(java, cached)


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "thalweg"


def _tell(text: str, say: bool) -> None:
    if say:
        print(f"[kafka] {text}", flush=True)


def _is_debian_root() -> bool:
    return bool(shutil.which("apt-get")) and hasattr(os, "geteuid") and os.geteuid() == 0


def _working_docker() -> str | None:
    docker = shutil.which("docker")
    if not docker:
        return None
    answer = subprocess.run([docker, "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False)
    return docker if answer.returncode == 0 and answer.stdout.strip() else None


def _install_java(say: bool) -> None:
    if not _is_debian_root():
        raise ConnectorError(
            "a local Kafka broker needs Java 17 or newer and Maven (`java`, `mvn` on the PATH), or a running Docker; "
            "on Debian and Ubuntu: apt-get install maven default-jre-headless"
        )
    _tell("no Java or Maven: installing Debian's maven and default-jre-headless …", say)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = ("maven", "default-jre-headless")
    for arguments in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *packages)):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConnectorError(f"apt-get {' '.join(arguments)} failed; it said:\n{done.stderr[-2000:]}")


def _download(version: str, cached: Path, say: bool) -> None:
    """Into a folder beside the cache first: what is there under the final name is complete."""
    _tell(f"fetching Apache Kafka {version} from Maven Central into {cached} …", say)
    started = time.monotonic()
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix=f".kafka-{version}-") as name:
        folder = Path(name)
        wanted = [
            ("org.apache.kafka", "kafka_2.13", version),
            ("org.apache.kafka", "kafka-tools", version),
            ("org.slf4j", "slf4j-simple", _SLF4J_VERSION),
        ]
        (folder / "pom.xml").write_text(_POM.format("".join(_DEPENDENCY.format(*part) for part in wanted)))
        maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}"]
        done = subprocess.run(maven, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConnectorError(
                f"Maven could not fetch Kafka {version}; is Maven Central (or its mirror in ~/.m2/settings.xml) "
                f"reachable? It said:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        try:
            (folder / "jars").rename(cached)
        except OSError:
            if not cached.is_dir():  # else another process was faster; its copy is as good
                raise
    _tell(f"ready after {time.monotonic() - started:.0f} s", say)
