"""Keyed functions: `stream.key_by(…).process(function)`, with state, timers and side outputs."""

from __future__ import annotations

from thalweg.streams.process.declared import ListState, MapState, ProcessFunction, ValueState
from thalweg.streams.process.timers import Timer

__all__ = ["ListState", "MapState", "ProcessFunction", "Timer", "ValueState"]
