"""Run as a process: ends local brokers when their owner is gone, however it went, and removes their data.

    python _watchdog.py OWNER_PID FOLDER

Every broker keeps its process id in FOLDER/*/pid while it runs. Standard library only.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def wait_for_end(pid: int) -> None:
    """Returns when the process is gone (or a zombie, where the system can tell)."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or an old kernel
        while True:
            try:
                os.kill(pid, 0)
            except OSError:
                return
            time.sleep(1)
    select.select([process], [], [])


def main() -> None:
    owner, folder = int(sys.argv[1]), Path(sys.argv[2])
    wait_for_end(owner)
    for file in folder.glob("*/pid"):
        with suppress(OSError, ValueError):
            os.kill(int(file.read_text()), signal.SIGKILL)
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.1)


if __name__ == "__main__":
    main()
