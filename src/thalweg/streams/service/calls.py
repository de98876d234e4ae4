"""Calls of an async function on an event loop of their own, so many at a time; results go to the engine's thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

Outcome = tuple[int, Any, BaseException | None]
"""(number of the call, what it gave, what it raised)."""


class Calls:
    """A thread with an event loop, on which `concurrency` workers take calls from a queue.

    Args:
        function: called with one argument.
        concurrency: how many calls are under way at most.
        timeout: seconds that one may take; None: no bound.
        done: called on the loop's thread whenever a call has ended.
    """

    def __init__(
        self,
        function: Callable[[Any], Coroutine[Any, Any, Any]],
        concurrency: int,
        timeout: float | None,
        done: Callable[[], object],
    ) -> None:
        self._function = function
        self._concurrency = concurrency
        self._timeout = timeout
        self._done = done
        self._outcomes: deque[Outcome] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[tuple[int, Any]] | None = None
        self._thread: threading.Thread | None = None

    def submit(self, calls: Iterable[tuple[int, Any]]) -> None:
        """Queues calls: (number, argument). From the engine's thread."""
        if self._thread is None:
            self._start()
        waiting = list(calls)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._enqueue, waiting)

    def take(self) -> list[Outcome]:
        """The outcomes since the last time. From the engine's thread."""
        taken = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken

    def close(self) -> None:
        """Cancels what is under way and ends the thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join(30)
            self._thread = self._loop = None

    def _start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="thalweg-async", daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._work(ready))
        except asyncio.CancelledError:
            return  # closed

    async def _work(self, ready: threading.Event) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue()
        self._workers = [asyncio.create_task(self._worker(self._queue)) for _ in range(self._concurrency)]
        ready.set()
        await asyncio.gather(*self._workers)

    def _enqueue(self, calls: list[tuple[int, Any]]) -> None:
        assert self._queue is not None
        for call in calls:
            self._queue.put_nowait(call)

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()

    async def _worker(self, queue: asyncio.Queue[tuple[int, Any]]) -> None:
        while True:
            number, argument = await queue.get()
            try:
                result = await asyncio.wait_for(self._function(argument), self._timeout)
                self._outcomes.append((number, result, None))
            except Exception as error:
                self._outcomes.append((number, None, error))
            self._done()
