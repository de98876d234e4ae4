"""A Redis server (Debian's `redis-server`)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from tests.servers.process import ServerProcess


class RedisServer(ServerProcess):
    """A server with everything in memory: nothing is kept when it ends, unless it is `persistent` (append-only file,
    written through with every command)."""

    name, up_within = "Redis", 30.0

    def __init__(self, *, persistent: bool = False) -> None:
        super().__init__()
        self._keeps = ["--appendonly", "yes", "--appendfsync", "always"] if persistent else ["--appendonly", "no"]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [_installed(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._keeps]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _installed() -> str:
    """The server's program, installed where it is missing and that can be done."""
    found = shutil.which("redis-server")
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "redis-server"], check=True, capture_output=True)
        found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("these tests need redis-server (Debian: apt-get install redis-server)")
    return found
