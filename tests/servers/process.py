"""A server in a process of its own: started, waited for, ended."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self


class ServerProcess(ABC):
    """Runs from `start` to `stop`, on a free port, in a folder of its own that `close` removes.

    Attributes:
        name: for messages.
        up_within: seconds until it must answer.
    """

    name: str
    up_within: float

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"thalweg-{self.name.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is up."""

    def start(self) -> Self:
        """Starts it and waits until it answers."""
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + self.up_within
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "log.txt").read_text(errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"{self.name} did not come up:\n{text}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Ends it at once; `start` brings it up at the same address."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
