"""The command line, as a shell calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thalweg import __version__
from thalweg.cli.kafka_options import cluster_or_log
from thalweg.cli.main import app
from thalweg.cli.topics import DEFAULT_LOG
from thalweg.connectors.sqlite_log import EmbeddedLog


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "120"}, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, f"{result.exception}"
    return result.exit_code, result.output


def shell(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "thalweg.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, check=False)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program on an embedded log with five events; its last line is left to the test."""
    with EmbeddedLog(tmp_path / "data.db") as log:
        log.append("in", [{"n": n} for n in range(5)])
    path = tmp_path / "program.py"
    code = f"""
        import sys
        from thalweg import App, col
        app = App("program", broker="sqlite:///{tmp_path / "data.db"}")
        numbers = app.stream("in", schema={{"n": int}})
        numbers.filter(col("n") >= 2).subscribe(lambda row: print("got", row.n, sys.argv[1:], flush=True))
    """
    path.write_text(textwrap.dedent(code))
    return path


def test_version() -> None:
    code, output = call("version")
    assert code == 0
    assert output.startswith(f"thalweg {__version__}, Python 3.")


def test_plan_runs_nothing(script: Path) -> None:
    with script.open("a") as file:
        file.write('\nif __name__ == "__main__":\n    app.run()\n    print("not reached")\n')
    code, output = call("plan", script)
    assert code == 0
    assert "source 'in'" in output
    assert "filter" in output
    assert "vectorised" in output
    assert "got" not in output
    assert "not reached" not in output
    code, output = call("plan", "--json", script)
    assert json.loads(output)["name"] == "program"


def test_run_executes_the_script(script: Path) -> None:
    with script.open("a") as file:
        file.write("\napp.run(until_caught_up=True)\n")
    result = shell("run", script, "--speed", "7")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"got {n} ['--speed', '7']" for n in (2, 3, 4)]


def test_run_starts_an_app_that_the_script_only_made(script: Path) -> None:
    command = [sys.executable, "-m", "thalweg.cli", "run", str(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == [f"got {n} []\n" for n in (2, 3, 4)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_run_without_an_app(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    result = shell("run", tmp_path / "empty.py")
    assert result.returncode == 1
    assert "has no App in a variable" in result.stderr
    assert "Traceback" not in result.stderr


def test_topics_and_jobs(script: Path) -> None:
    log = script.parent / "data.db"
    code, output = call("topics", "--log", log)
    assert code == 0
    assert "in " in output
    assert " 5" in output
    with script.open("a") as file:
        file.write("\napp.run(until_caught_up=True)\n")
    assert shell("run", script).returncode == 0
    code, output = call("jobs", "--log", log)
    assert output.split("\n")[1].split()[:5] == ["program", "in", "0", "5", "0"]
    code, message = call("topics", "--log", log.parent / "none.db")
    assert code == 1
    assert "no embedded log at" in message


def test_the_environment_names_the_cluster_where_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_KAFKA_BROKERS", "broker:9092")
    assert cluster_or_log(None, DEFAULT_LOG) == "broker:9092"
    assert cluster_or_log("other:9092", DEFAULT_LOG) == "other:9092"
    assert cluster_or_log(None, Path("mine.db")) is None
    monkeypatch.delenv("THALWEG_KAFKA_BROKERS")
    assert cluster_or_log(None, DEFAULT_LOG) is None


def test_dead_letters(script: Path) -> None:
    log = script.parent / "data.db"
    with EmbeddedLog(log) as opened:
        opened.append_records("in", ['{"n": 1', '{"n": "many"}', b"\xff\xfe"])
    with script.open("a") as file:
        file.write("\napp.run(until_caught_up=True)\n")
    result = shell("run", script)
    assert result.returncode == 0, result.stderr
    code, output = call("dlq", "list", "--log", log)
    assert code == 0
    assert "MalformedJson" in output
    assert "WrongType" in output
    code, output = call("dlq", "show", "in", "--log", log)
    assert "in[0] offset 5" in output
    assert '{"n": 1' in output
    assert "\\xff\\xfe" in output
    code, output = call("dlq", "show", "in", "--limit", "1", "--log", log)
    assert "offset 5" not in output
    assert "offset 7" in output
    code, message = call("dlq", "show", "other", "--log", log)
    assert code == 1
    assert "no dead letters of 'other'" in message
