"""The stream engine: the `DataStream` API, windows, watermarks, and the local engine behind them."""

from __future__ import annotations

from thalweg.streams.app import App, default_app
from thalweg.streams.checkpoints import CheckpointConfig, StateBackend
from thalweg.streams.connector import Guarantee
from thalweg.streams.plan.join import Interval
from thalweg.streams.stream import DataStream, WindowedStream
from thalweg.streams.watermarks import WatermarkGenerator
from thalweg.streams.windows import GlobalWindow, SessionWindow, SlidingWindow, TimeSemantics, TumblingWindow

__all__ = [
    "App",
    "CheckpointConfig",
    "DataStream",
    "GlobalWindow",
    "Guarantee",
    "Interval",
    "SessionWindow",
    "SlidingWindow",
    "StateBackend",
    "TimeSemantics",
    "TumblingWindow",
    "WatermarkGenerator",
    "WindowedStream",
    "default_app",
]
