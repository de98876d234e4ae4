"""Blocking calls for `async` code: one after the other, on one thread, and ended when their awaiter is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class WorkerThread:
    """A thread that is started with the first call."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], T], interrupt: Callable[[], object]) -> T:
        """Awaits the call. When the awaiter is cancelled, `interrupt` makes the call end, which is awaited first."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="thalweg-kafka-consumer")
        running = asyncio.get_running_loop().run_in_executor(self._executor, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            interrupt()
            with suppress(Exception):  # the cancellation is what its awaiter hears of
                await running
            raise

    def close(self) -> None:
        """Waits for the call under way."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
