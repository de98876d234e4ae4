"""Live updates as server-sent events (WHATWG HTML, 9.2): every alert that is new or has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from thalweg.alerts.manager import AlertManager
from thalweg.alerts.service.access import Access

EVERY = 0.25
"""Seconds between two looks at the store: other instances change it, too."""
QUIET = 15.0
"""Seconds after which a comment keeps the connection open."""
_NEWEST = 500


def endpoint(manager: AlertManager, access: Access) -> Callable[[Request], Awaitable[Response]]:
    """The stream: first what is open now, then each change, as events `alert` with the alert as JSON."""

    async def stream(request: Request) -> Response:
        key = access.key_of(request.headers.get("authorization"))
        if wait := access.wait(key):
            raise HTTPException(429, "too many requests", headers={"Retry-After": str(wait)})
        if key is None:
            raise HTTPException(401, "an API key is needed", headers={"WWW-Authenticate": "Bearer"})
        return StreamingResponse(_events(manager, request), media_type="text/event-stream")

    return stream


async def _events(manager: AlertManager, request: Request) -> AsyncIterator[str]:
    seen: dict[str, int] = {}
    silent = 0.0
    while not await request.is_disconnected():
        newest = await run_in_threadpool(manager.list, limit=_NEWEST)
        changed = [alert for alert in reversed(newest) if seen.get(alert.id) != alert.revision]
        # Alerts that are no longer among the newest may still change.
        older = [id for id in seen if id not in {alert.id for alert in newest}]
        if older:
            found = await run_in_threadpool(manager.store.get, older)
            changed += [alert for alert in found.values() if seen[alert.id] != alert.revision]
            for alert in found.values():
                if not alert.open:
                    seen.pop(alert.id, None)
        for alert in changed:
            seen[alert.id] = alert.revision
            yield f"id: {alert.id}:{alert.revision}\nevent: alert\ndata: {json.dumps(alert.payload())}\n\n"
        silent = 0.0 if changed else silent + EVERY
        if silent >= QUIET:
            silent = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(EVERY)
