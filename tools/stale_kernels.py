"""Removes compiled kernels that were made with other constants or functions than those that stand there now.

Numba keeps what it has compiled beside the source file and compiles again when that file changes. What a kernel imports
from another file is compiled in, and Numba does not look whether it has changed: after an edit there, or a change of
branches, the old kernel would go on with the old values. Users are not concerned: an installation writes every file.

    python3 tools/stale_kernels.py
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def remove(source: Path) -> list[Path]:
    """Removes what is stale of the package in this folder; returns the modules that are compiled anew."""
    stale = []
    for path in filter(_is_kernel, sorted(source.rglob("*.py"))):
        folder = path.parent / "__pycache__"
        stamp, now = folder / f"{path.stem}.imports", _fingerprint(path, source)
        if stamp.exists() and stamp.read_text() == now:
            continue
        compiled = [*folder.glob(f"{path.stem}.*.nb[ic]")]
        if compiled:
            stale.append(path)
        for file in compiled:
            file.unlink()
        folder.mkdir(exist_ok=True)
        stamp.write_text(now)
    return stale


def _fingerprint(kernel: Path, source: Path) -> str:
    """Of all that is compiled into a kernel but its own file: what it imports, and what kernels among that import."""
    seen: dict[Path, bytes] = {}
    waiting = [kernel]
    while waiting:
        for path in _imports(waiting.pop(), source):
            if path not in seen:
                seen[path] = path.read_bytes()
                if _is_kernel(path):
                    waiting.append(path)
    text = b"".join(str(path.relative_to(source)).encode() + seen[path] for path in sorted(seen))
    return hashlib.sha256(text).hexdigest()


def _imports(path: Path, source: Path) -> Iterator[Path]:
    """The package's own modules that one imports names from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == source.name:
            module = source.parent.joinpath(*node.module.split("."))
            files = [module.with_suffix(".py"), module / "__init__.py", *(module / f"{a.name}.py" for a in node.names)]
            yield from (file for file in files if file.exists())


def _is_kernel(path: Path) -> bool:
    return "from numba import" in path.read_text()


if __name__ == "__main__":
    for module in remove(ROOT / "src" / "thalweg"):
        print(f"[setup] compiled kernels of {module.relative_to(ROOT)} are made anew: what they import has changed")
