"""Apicurio Registry 2.6 (Java 17), which speaks the API of Confluent's schema registry; from Maven Central."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx

_VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{_VERSION}:zip:all"
_UP_WITHIN = 120.0


class Apicurio:
    """A registry with its schemas in memory.

    Args:
        owner: process id; the registry is ended when it is gone. Default: this process ends it itself.
    """

    def __init__(self) -> None:
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="thalweg-apicurio-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the Confluent API is."""
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    def start(self) -> Apicurio:
        """Starts it and waits until it answers; after a `stop`, with nothing in it."""
        jar = _installed()
        options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dquarkus.http.port={self.port}"]
        options += ["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN"]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *options, "-jar", str(jar)],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _UP_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self._folder / "log.txt").read_text(errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"Apicurio did not come up:\n{text}")
            time.sleep(0.1)
        return self

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/subjects", timeout=2).is_success
        return False

    def stop(self) -> None:
        """Ends it; `start` brings an empty one up at the same address."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Apicurio:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
