"""What the demo watches for: two patterns and the alert rules, on streams of the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thalweg import DataStream
from thalweg.alerts import AlertManager, AlertRule, Severity, TimeBasedSuppression
from thalweg.cep import PatternBuilder
from thalweg.demo.attacks import FAILURES, FRAUD_AMOUNT, Kind
from thalweg.demo.board import Board

BRUTE_FORCE = (
    PatternBuilder.create("brute-force", "Brute Force Login")
    .where("failed", lambda e: ~e.success)
    .times(FAILURES)
    .within("1m")
    .build()
)

INJECTION = (
    PatternBuilder.create("sql-injection", "SQL Injection")
    .where("probe", lambda e: "UNION SELECT" in e.url)
    .where("exploit", lambda e: e.status == 200)
    .within("30s")
    .build()
)
