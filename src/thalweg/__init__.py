"""Thalweg: real-time streaming analytics for Python at columnar speed.

>>> import thalweg
>>> thalweg.__version__
'0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thalweg.expressions import col, concat_str, lit, when
    from thalweg.streams import App, DataStream

__version__ = "0.1.0"

__all__ = ["App", "DataStream", "__version__", "col", "concat_str", "lit", "run", "when"]

_LAZY = {
    "App": "thalweg.streams",
    "DataStream": "thalweg.streams",
    "col": "thalweg.expressions",
    "concat_str": "thalweg.expressions",
    "lit": "thalweg.expressions",
    "when": "thalweg.expressions",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'thalweg' has no attribute {name!r}")


def run(**settings: Any) -> None:
    """Runs the default app, whose streams were made by `DataStream("topic")` (see `App.run`)."""
    from thalweg.streams import default_app

    default_app().run(**settings)
