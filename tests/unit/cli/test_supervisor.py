"""The supervisor, with small processes for workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.cli.supervisor import FENCED, GIVE_UP, REFUSED, Supervisor, exit_code
from thalweg.errors import ConfigurationError, ConnectorError, FencedError, StateError

WORKER = """
import os, pathlib, sys, time
slot = os.environ["THALWEG_SLOT"]
lives = pathlib.Path(sys.argv[1], slot)
with lives.open("a") as file:
    file.write(os.environ["THALWEG_WORKERS"] + "\\n")
life = len(lives.read_text().splitlines())
"""


def supervisor(folder: Path, worker: str, workers: int = 1, **settings: object) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    command = [sys.executable, "-S", "-c", WORKER + worker, str(folder)]
    return Supervisor(command, workers, log=said.append, backoff=0.001, **settings), said  # type: ignore[arg-type]


def lives(folder: Path, slot: int) -> int:
    """How often a worker was started in the slot."""
    path = folder / str(slot)
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_workers_that_end_well_are_not_started_again(tmp_path: Path) -> None:
    keeper, said = supervisor(tmp_path, "", workers=2, first_slot=5)
    assert keeper.run() == 0
    assert (lives(tmp_path, 5), lives(tmp_path, 6), said) == (1, 1, [])
    assert (tmp_path / "5").read_text() == "2\n"


def test_a_crashed_worker_is_started_again_in_its_slot(tmp_path: Path) -> None:
    keeper, said = supervisor(tmp_path, "if life < 3: os.kill(os.getpid(), 9)")
    assert keeper.run() == 0
    assert lives(tmp_path, 0) == 3
    assert keeper.restarts == 2
    assert said[0].startswith("worker 0 was killed by SIGKILL; starting it again")


def test_a_worker_that_can_not_run_ends_all(tmp_path: Path) -> None:
    keeper, said = supervisor(tmp_path, f"sys.exit({REFUSED}) if slot == '1' else time.sleep(60)", workers=2)
    assert keeper.run() == 1
    assert lives(tmp_path, 1) == 1
    assert said == ["worker 1 can't run; ending all"]


def test_a_slot_that_another_took_over_is_left_to_it(tmp_path: Path) -> None:
    keeper, said = supervisor(tmp_path, f"sys.exit({FENCED} if slot == '0' else 0)", workers=2)
    assert keeper.run() == 1
    assert lives(tmp_path, 0) == 1
    assert "--first-slot" in said[0]


def test_it_gives_up_on_a_worker_that_never_gets_well(tmp_path: Path) -> None:
    keeper, said = supervisor(tmp_path, "sys.exit(1)")
    assert keeper.run() == 1
    assert lives(tmp_path, 0) == GIVE_UP
    assert said[-1] == f"worker 0 ended with code 1, for the {GIVE_UP}th time in a row; ending all"


def test_a_healthy_time_makes_earlier_crashes_forgotten(tmp_path: Path) -> None:
    keeper, _ = supervisor(tmp_path, f"sys.exit(life <= {GIVE_UP + 2})", healthy=0.0)
    assert keeper.run() == 0
    assert lives(tmp_path, 0) == GIVE_UP + 3


def test_workers_are_added_taken_away_and_ended(tmp_path: Path) -> None:
    keeper, _ = supervisor(tmp_path, "time.sleep(60)")
    results: list[int] = []
    running = threading.Thread(target=lambda: results.append(keeper.run()))
    running.start()
    wait_for(lambda: lives(tmp_path, 0) == 1)
    keeper.add()
    wait_for(lambda: lives(tmp_path, 1) == 1)
    keeper.remove()
    wait_for(lambda: list(keeper.pids) == [0])
    keeper.remove()  # the last one stays
    assert list(keeper.pids) == [0]
    keeper.stop()
    running.join(30)
    assert results == [0]
    assert lives(tmp_path, 0) == lives(tmp_path, 1) == 1


def test_a_second_stop_does_not_wait(tmp_path: Path) -> None:
    keeper, _ = supervisor(
        tmp_path, "import signal; signal.signal(15, signal.SIG_IGN); lives.with_suffix('.up').touch(); time.sleep(60)"
    )
    running = threading.Thread(target=keeper.run)
    running.start()
    wait_for((tmp_path / "0.up").exists)
    (pid,) = keeper.pids.values()
    keeper.stop()
    time.sleep(0.1)
    os.kill(pid, 0)  # still there
    keeper.stop()
    running.join(30)
    assert not running.is_alive()


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError(), REFUSED), (StateError(), REFUSED), (FencedError(), FENCED), (ConnectorError(), 1)],
)
def test_workers_tell_by_their_exit_code_whether_to_start_them_again(error: Exception, code: int) -> None:
    assert exit_code(error) == code  # type: ignore[arg-type]


def test_signals_of_a_terminal_reach_the_supervisor_only(tmp_path: Path) -> None:
    keeper, _ = supervisor(tmp_path, "lives.with_suffix('.group').write_text(str(os.getpgid(0)))")
    keeper.run()
    assert int((tmp_path / "0.group").read_text()) != os.getpgid(0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
