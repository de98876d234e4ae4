"""Runs conformance cases without services: see `data/README.md` for the formats.

`batch_size=None` means everything in one batch. What can't be served yet raises `NotServed` with the reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Also importable by path, from outside the test run.
if str(Path(__file__).parents[2]) not in sys.path:
    sys.path.append(str(Path(__file__).parents[2]))

from tests.conformance.cep_cases import run_cep_case
from tests.conformance.nexmark_cases import run_nexmark
from tests.conformance.not_served import NotServed
from tests.conformance.trigger_cases import run_trigger_case
from tests.conformance.window_cases import run_window_case

__all__ = ["NotServed", "run_cep_case", "run_nexmark", "run_trigger_case", "run_window_case"]
