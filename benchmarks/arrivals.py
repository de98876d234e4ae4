"""The other side of a webhook channel: notes when each alert's request came."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """One request: when it came (seconds), and the rule and the event of its alert."""

    at: float
    rule: str
    event: dict[str, Any]


@contextmanager
def arrivals() -> Iterator[tuple[str, list[Arrival]]]:
    """A local HTTP server: its address, and what came so far."""
    found: list[Arrival] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = time.time()
            alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alert"]
            found.append(Arrival(at, alert["rule"], alert["event"]))
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", found
    finally:
        server.shutdown()
        server.server_close()
