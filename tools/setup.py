"""Makes `.venv` with what Thalweg needs. Standard library only: it runs before anything is installed.

    python3 tools/setup.py            what users need (`make demo`)
    python3 tools/setup.py dev        and what tests and checks need (`make test`)

A second run finds its stamp and installs nothing. Compiled kernels that an edit has made stale are removed each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
NEWEST = (3, 14)
INPUTS = ("pyproject.toml", "requirements/constraints.txt", "requirements/dev.txt", "tools/setup.py")


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def run(*command: str | Path) -> None:
    result = subprocess.run([str(part) for part in command], cwd=ROOT)
    if result.returncode:
        sys.exit(f"[setup] failed: {' '.join(map(str, command))}\n[setup] its own words stand above")


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def choose_python() -> str:
    """This interpreter where it is new enough, else the newest one on the PATH that is."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            return found
    have = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"[setup] Thalweg runs on Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}; this is {have}.")


def make_venv(python: str) -> None:
    say(f"making .venv with {python}")
    shutil.rmtree(VENV, ignore_errors=True)
    if subprocess.run([python, "-m", "venv", str(VENV)], cwd=ROOT).returncode == 0:
        return
    # Debian ships Python without ensurepip; its package brings it.
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        say("no venv module: installing Debian's python3-venv")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "python3-venv")
        run(python, "-m", "venv", VENV)
        return
    sys.exit("[setup] this Python can't make virtual environments; on Debian: apt-get install python3-venv")


def main() -> None:
    install()
    run(venv_python(), "tools/stale_kernels.py")


def install() -> None:
    dev = "dev" in sys.argv[1:]
    started = time.monotonic()
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()
    stamps = {level: VENV / f".thalweg-{level}-{wanted[:16]}" for level in ("user", "dev")}
    if stamps["dev"].exists() or (not dev and stamps["user"].exists()):
        return
    if not venv_python().exists():
        make_venv(choose_python())
    say("installing " + ("Thalweg, its tests and checks" if dev else "Thalweg") + " (wheels only) …")
    pip = (venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "-q")
    constraints = ("-c", "requirements/constraints.txt")
    if dev:
        run(*pip, *constraints, "--only-binary", ":all:", "-r", "requirements/dev.txt")
    run(*pip, *constraints, "--only-binary", ":all:", "--no-binary", "thalweg", "-e", ".")
    for level in ("user", "dev") if dev else ("user",):
        stamps[level].touch()
    say(f"ready in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
