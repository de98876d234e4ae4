"""A PostgreSQL server (Debian's `postgresql`), in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.process import free_port


class PostgresServer:
    """A server whose superuser is `thalweg`, without a password. It refuses to run as root, so root hands it to the
    user `postgres`."""

    def __init__(self) -> None:
        self._user = "postgres" if os.geteuid() == 0 else None
        self._programs = _installed()
        self._folder = Path(tempfile.mkdtemp(prefix="thalweg-postgres-"))
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._data = self._folder / "data"
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://thalweg@127.0.0.1:{self.port}/postgres"

    def start(self) -> PostgresServer:
        """Starts it and waits until it answers."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "thalweg", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", str(self._folder / "log"), "-w", "start")
        return self

    def stop(self) -> None:
        """Ends it at once; `start` brings it back with all that was committed."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        identity: dict[str, Any] = {"user": self._user} if self._user else {}
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **identity,
        )  # fmt: skip
        if done.returncode:
            log = self._folder / "log"
            more = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')[-2000:]}\n{more}")

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _installed() -> Path:
    """The folder of the server's programs, installed where they are missing and that can be done."""
    found = _programs()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "postgresql"], check=True, capture_output=True)
        found = _programs()
    if found is None:
        raise RuntimeError("these tests need PostgreSQL (Debian: apt-get install postgresql)")
    return found


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).parent
