"""Actions: users' functions that are called because something was found. Plain or async, retried, kept apart.

An action that fails does not stop the stream or the other actions: it is tried again, and what fails for good comes
back as an `ActionFailure`, for the caller to report.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

Action = Callable[..., Any]
"""Takes what it is told of; a plain function, or an async one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often an action is tried, and how long to wait in between: `delay`, then twice that, and so on.

    An async action is given up, and counts as failed, after `timeout`; a plain one can't be interrupted.
    """

    attempts: int = 3
    delay: Duration = 20
    timeout: Duration = "30s"

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"attempts is {self.attempts}; an action is tried at least once")
        milliseconds(self.delay, name="delay")
        milliseconds(self.timeout, name="timeout", minimum=1)

    def pause(self, attempt: int) -> float:
        """Seconds to wait after this many failures."""
        return milliseconds(self.delay) / 1000 * 2.0 ** (attempt - 1)


class Call(NamedTuple):
    """An action to call: with what, on behalf of whom, for which row of the batch."""

    action: Action
    arguments: tuple[Any, ...]
    owner: str
    row: int


@dataclass(frozen=True, slots=True)
class ActionFailure:
    """An action that failed at every attempt."""

    owner: str
    """The rule, or the transition or state, whose action it is."""
    row: int
    """Which row of the batch it was called for."""
    error: Exception
    attempts: int


def is_async(action: Action) -> bool:
    """Whether calling it gives a coroutine: an async function, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(action) or inspect.iscoroutinefunction(getattr(action, "__call__", None))  # noqa: B004


class ActionRunner:
    """Calls actions. Plain ones in the order given; async ones together, `concurrency` at a time.

    `run` returns when all are done: what follows (a commit) knows that they were called.
    """

    def __init__(self, retry: Retry | None = None, *, concurrency: int = 100) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency is {concurrency}; it must be at least 1")
        self.retry = retry or Retry()
        self.concurrency = concurrency
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, calls: Sequence[Call]) -> list[ActionFailure]:
        """Calls them; returns what failed for good, in the order of calls."""
        waiting = [(number, call) for number, call in enumerate(calls) if is_async(call.action)]
        later = self._start(waiting) if waiting else None
        failed: dict[int, ActionFailure] = {}
        for number, call in enumerate(calls):
            failure = None if is_async(call.action) else self._call(call)
            if failure is not None:
                failed[number] = failure
        if later is not None:
            failed.update(later())
        return [failed[number] for number in sorted(failed)]

    def _call(self, call: Call) -> ActionFailure | None:
        attempt = 1
        while True:
            try:
                result = call.action(*call.arguments)
                if inspect.iscoroutine(result):  # a plain function around an async one
                    asyncio.run_coroutine_threadsafe(self._in_time(result), self._running()).result()
                return None
            except Exception as error:
                if attempt >= self.retry.attempts:
                    return _given_up(call, error, attempt)
            time.sleep(self.retry.pause(attempt))
            attempt += 1

    def _start(self, calls: Sequence[tuple[int, Call]]) -> Callable[[], dict[int, ActionFailure]]:
        """Async actions run on a thread of their own, so that callers inside a running event loop work as well."""
        return asyncio.run_coroutine_threadsafe(self._gather(calls), self._running()).result

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name="thalweg-actions", daemon=True).start()
        return self._loop

    async def _in_time(self, made: Coroutine[Any, Any, Any]) -> None:
        await asyncio.wait_for(made, milliseconds(self.retry.timeout) / 1000)

    async def _gather(self, calls: Sequence[tuple[int, Call]]) -> dict[int, ActionFailure]:
        gate = asyncio.Semaphore(self.concurrency)

        async def one(number: int, call: Call) -> tuple[int, ActionFailure | None]:
            async with gate:
                return number, await self._call_async(call)

        results = await asyncio.gather(*(one(number, call) for number, call in calls))
        return {number: failure for number, failure in results if failure is not None}

    async def _call_async(self, call: Call) -> ActionFailure | None:
        attempt = 1
        while True:
            try:
                await self._in_time(call.action(*call.arguments))
                return None
            except Exception as error:
                if attempt >= self.retry.attempts:
                    return _given_up(call, error, attempt)
            await asyncio.sleep(self.retry.pause(attempt))
            attempt += 1

    def close(self) -> None:
        """Ends the thread of async actions; a later `run` starts another."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _given_up(call: Call, error: Exception, attempts: int) -> ActionFailure:
    logger.warning("action of %s failed %d times: %s: %s", call.owner, attempts, type(error).__name__, error)
    return ActionFailure(call.owner, call.row, error, attempts)
