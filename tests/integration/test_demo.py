"""The demo as users start it: it ends by itself, by Ctrl-C, goes on, and draws its picture."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

COMMAND = [sys.executable, "-m", "thalweg.demo"]


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [*COMMAND, "--plain", "--rate", "300", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


def counted(output: str) -> tuple[int, int, int]:
    """Attacks found, attacks due, other reports: of the summary."""
    found = re.search(r"^attacks +(\d+) of (\d+) found, (\d+) others", output, re.MULTILINE)
    assert found, output
    return int(found[1]), int(found[2]), int(found[3])


def test_it_ends_with_a_summary_and_goes_on(tmp_path: Path) -> None:
    first = demo(tmp_path, "--seconds", "7", "--screenshot", "view.svg")
    assert first.returncode == 0, first.stdout + first.stderr
    found, due, others = counted(first.stdout)
    assert found == due >= 1
    assert others == 0
    assert "goes on where it was" not in first.stdout
    assert "ATTACK      brute force            user-2000" in first.stdout
    picture = (tmp_path / "view.svg").read_text()
    assert "make&#160;demo" in picture or "make demo" in picture
    assert "Requests" in picture

    second = demo(tmp_path, "--seconds", "2", "--no-burst")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "goes on where it was" in second.stdout
    assert "user-2000 " not in second.stdout, "an attack of the first run does not come again"
    assert counted(second.stdout)[2] == 0

    fresh = demo(tmp_path, "--seconds", "1", "--no-burst", "--fresh")
    assert fresh.returncode == 0
    assert "goes on where it was" not in fresh.stdout


def test_ctrl_c_ends_the_live_view_cleanly(tmp_path: Path) -> None:
    """On a real pseudo-terminal of 100 × 30: alternate screen, figures, then back to the shell with the summary."""
    import fcntl
    import struct
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"} | {"COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*COMMAND, "--rate", "300", "--no-burst"],
        cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    seen = bytearray()
    reader = threading.Thread(target=_read, args=(controller, seen))
    reader.start()
    deadline = time.monotonic() + 200
    while b"/checkout" not in seen and time.monotonic() < deadline:
        assert process.poll() is None, seen.decode("utf-8", "replace")[-3000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    reader.join(10)
    os.close(controller)
    text = seen.decode("utf-8", "replace")
    assert "\x1b[?1049h" in text, "the alternate screen was entered"
    assert "\x1b[?1049l" in text, "and left"
    after = text.rsplit("\x1b[?1049l", 1)[1]
    assert "attacks " in after
    assert "Traceback" not in text


def _read(controller: int, into: bytearray) -> None:
    while True:
        try:
            if select.select([controller], [], [], 1)[0]:
                data = os.read(controller, 65_536)
                if not data:
                    return
                into += data
        except OSError:  # the other end has closed
            return


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    wrong = demo(tmp_path, "--size", "10x10")
    assert wrong.returncode == 2
    assert "at least 80x24" in wrong.stderr
    (tmp_path / "text.db").write_text("not a database, and long enough to see\n" * 100)
    broken = demo(tmp_path, "--data", "text.db")
    assert broken.returncode == 1
    assert "not a SQLite file" in broken.stderr
    assert "Traceback" not in broken.stderr
