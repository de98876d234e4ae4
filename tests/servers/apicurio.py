"""Apicurio Registry 2.6 (Java 17), which speaks the API of Confluent's schema registry; from Maven Central."""

from __future__ import annotations

import os
import subprocess
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import httpx

from tests.servers.process import ServerProcess

_VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{_VERSION}:zip:all"


class Apicurio(ServerProcess):
    """A registry with its schemas in memory: after a `stop` it comes up with nothing in it."""

    name, up_within = "Apicurio", 120.0

    @property
    def url(self) -> str:
        """Where the Confluent API is."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def command(self) -> list[str]:
        options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dquarkus.http.port={self.port}"]
        options += ["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN"]
        return ["java", *options, "-jar", str(_installed())]

    def answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/subjects", timeout=2).is_success
        return False


def _installed() -> Path:
    """The runner's jar, unpacked once into the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
    folder = base / f"apicurio-{_VERSION}"
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix=".apicurio-") as name:
            _unpack(Path(name))
            with suppress(OSError):  # another process was faster; its copy is as good
                (Path(name) / "app").rename(folder)
    return next(folder.glob("*-runner.jar"))


def _unpack(folder: Path) -> None:
    from thalweg.kafka._local_install import find_runtime

    find_runtime()  # Java and Maven, where they are missing
    maven = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}"]
    done = subprocess.run(maven, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Maven could not fetch {_ARTIFACT}:\n{(done.stdout + done.stderr)[-2000:]}")
    with zipfile.ZipFile(next(folder.glob("*.zip"))) as archive:
        archive.extractall(folder / "app")
