"""The stream engine: the `DataStream` API, windows, watermarks, and the local engine behind them."""

from __future__ import annotations

from thalweg.streams.app import App, default_app
from thalweg.streams.calendar import CalendarWindow
from thalweg.streams.checkpoints import CheckpointConfig, StateBackend
from thalweg.streams.connector import Guarantee
from thalweg.streams.plan.join import Interval
from thalweg.streams.process import ListState, MapState, ProcessFunction, Timer, ValueState
from thalweg.streams.process.batches import BatchFunction
from thalweg.streams.stream import DataStream, WindowedStream
from thalweg.streams.tables import Table
from thalweg.streams.triggers import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    DefaultTrigger,
    Repeatedly,
    Trigger,
)
from thalweg.streams.watermarks import WatermarkGenerator
from thalweg.streams.windows import GlobalWindow, SessionWindow, SlidingWindow, TimeSemantics, TumblingWindow

__all__ = [
    "AfterAll",
    "AfterAny",
    "AfterCount",
    "AfterEach",
    "AfterProcessingTime",
    "AfterWatermark",
    "App",
    "BatchFunction",
    "CalendarWindow",
    "CheckpointConfig",
    "DataStream",
    "DefaultTrigger",
    "GlobalWindow",
    "Guarantee",
    "Interval",
    "ListState",
    "MapState",
    "ProcessFunction",
    "Repeatedly",
    "SessionWindow",
    "SlidingWindow",
    "StateBackend",
    "Table",
    "TimeSemantics",
    "Timer",
    "Trigger",
    "TumblingWindow",
    "ValueState",
    "WatermarkGenerator",
    "WindowedStream",
    "default_app",
]
