"""Compiled kernels are made anew when what is compiled into them changes, and only then."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools" / "stale_kernels.py"
KERNEL = "from numba import njit\nfrom package.constants import WIDTH\nfrom package import inner\n"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stale_kernels", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    files = {
        "kernel": KERNEL,
        "constants": "WIDTH = 9\n",
        "inner": "from numba import njit\nfrom package.deep import DEPTH\n",
        "deep": "DEPTH = 3\n",
        "other": "NOTHING = 0\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def compiled(package: Path) -> list[Path]:
    """What Numba leaves of a function of the kernel."""
    files = [package / "__pycache__" / f"kernel.advance-7.py311.{end}" for end in ("nbi", "1.nbc")]
    files[0].parent.mkdir(exist_ok=True)
    for file in files:
        file.write_bytes(b"machine code")
    return files


def test_what_was_compiled_before_anyone_looked_is_not_trusted(tool: ModuleType, package: Path) -> None:
    files = compiled(package)
    assert tool.remove(package) == [package / "kernel.py"]
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize(("changed", "stale"), [("constants", True), ("inner", True), ("deep", True), ("other", False)])
def test_a_change_of_what_is_compiled_in_counts(tool: ModuleType, package: Path, changed: str, stale: bool) -> None:
    tool.remove(package)
    files = compiled(package)
    assert tool.remove(package) == []
    with (package / f"{changed}.py").open("a") as file:
        file.write("MORE = 1\n")
    assert (package / "kernel.py" in tool.remove(package)) == stale
    assert all(file.exists() != stale for file in files)
