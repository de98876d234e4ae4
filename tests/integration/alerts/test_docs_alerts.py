"""Every program, file and command of docs/alerts.md and docs/alert-service.md runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.process import free_port
from thalweg.alerts import AlertManager

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("alerts.md", "python"):
        exec(compile(block, "docs/alerts.md", "exec"), names)
    said = capsys.readouterr().out
    for expected in blocks("alerts.md", "text"):
        assert expected in said
    assert "resolved by bob" in said
    assert names["manager"].notifications()[0].state == "sent"
    names["alerts"].close()
    names["manager"].close()


def test_the_file_and_all_commands(tmp_path: Path) -> None:
    [file] = blocks("alert-service.md", "yaml")
    (tmp_path / "alerts.yaml").write_text(file)
    from thalweg.connectors.sqlite_log import EmbeddedLog

    with EmbeddedLog(tmp_path / "data.db") as log:
        log.append("loads", [{"host": "web1", "cpu": 99}])
    port = free_port()
    environment = {
        **os.environ,
        "THALWEG_ALERTS_KEY": "tw_a-key-for-this-test-only",
        "HOOK_SECRET": "hook",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    serve = ["thalweg", "alerts", "serve", "alerts.yaml", "--port", str(port)]
    with (tmp_path / "log").open("wb") as out:
        service = subprocess.Popen(serve, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        up(port, service, tmp_path / "log")
        script = "\n".join(blocks("alert-service.md", "bash")).replace("8093", str(port))
        done = subprocess.run(
            ["bash", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(tmp_path / 'log').read_text()}"
        told(tmp_path, {"db1 is at 97 %", "web1 is at 99 %", "Disk is full"})
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(60)
    assert code == 0, (tmp_path / "log").read_text()
    for expected in ("BEGIN:VCALENDAR", "event: alert", "thalweg_alert_rules 1", "channel 'console' has taken"):
        assert expected in done.stdout, expected


def told(folder: Path, titles: set[str]) -> None:
    """Waits until there are alerts of these titles: the job that reads the topic may have to compile first."""
    manager = AlertManager(f"sqlite:///{folder / 'alerts.db'}", deliver=False)
    deadline = time.monotonic() + 150
    while not titles <= (found := {alert.title for alert in manager.list()}):
        assert time.monotonic() < deadline, (found, (folder / "log").read_text())
        time.sleep(0.1)
    manager.close()


def up(port: int, service: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert service.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
