"""Runs cases through Flink's automaton."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.flink_cep.java import command


def answers(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each case `matches` (step → positions) and `timeouts` (`labels`, `at_ms`), or `error`."""
    given = "".join(json.dumps(case) + "\n" for case in cases)
    run = command(Path(__file__).with_name("Harness.java"), "-Xss8m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    done = subprocess.run(run, input=given, capture_output=True, text=True, check=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]
