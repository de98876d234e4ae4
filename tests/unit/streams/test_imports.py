"""`import thalweg` and building a plan stay light: kernels and clients load when a job starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = "{'numba', 'pyarrow', 'confluent_kafka', 'httpx', 'llvmlite'} & {name.split('.')[0] for name in sys.modules}"


@pytest.mark.parametrize(
    "program",
    [
        "import thalweg",
        "from thalweg import App, DataStream, col",
        "from thalweg import App, col; from thalweg.streams import TumblingWindow, WatermarkGenerator\n"
        "s = App('t').stream('x', timestamp='t').filter(lambda e: e.v > 1).key_by('k')\n"
        "s.window(TumblingWindow('1m')).aggregate(n=col('v').mean()).to('out')\n"
        "s.app.explain()",
    ],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    check = f"import sys\n{program}\nprint(sorted({_HEAVY}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
