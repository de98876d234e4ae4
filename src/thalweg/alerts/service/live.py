"""Live updates, as server-sent events (WHATWG HTML, 9.2) and over WebSockets (RFC 6455): every alert that is new or has
changed. Both begin with the newest alerts, or go on after a change that the other side has seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from thalweg.alerts.service.access import Access
from thalweg.alerts.service.watcher import Listener, TooMany, Update, Watcher

QUIET = 15.0
"""Seconds after which a comment keeps a quiet stream open. (WebSockets have pings for that.)"""
NEWEST = 500
PROTOCOL = "thalweg.alerts"
"""Subprotocol of the WebSocket. A browser, which can't set headers there, gives its key as another: `bearer.KEY`."""


def stream(watcher: Watcher, access: Access) -> Callable[[Request], Awaitable[Response]]:
    """Server-sent events `alert` with the alert as JSON. `Last-Event-ID` goes on where a connection broke."""

    async def endpoint(request: Request) -> Response:
        if refused := _refused(access, request.headers.get("authorization")):
            raise refused
        after = _number(request.headers.get("last-event-id"))
        try:
            listener = watcher.join()
        except TooMany:
            raise HTTPException(503, "too many live connections", headers={"Retry-After": "10"}) from None
        return StreamingResponse(_events(watcher, listener, after), media_type="text/event-stream")

    return endpoint


async def _events(watcher: Watcher, listener: Listener, after: int | None) -> AsyncIterator[str]:
    try:
        for update in await _first(watcher, after):
            yield _event(update)
        while True:
            updates = await listener.take(QUIET)
            if listener.lost:  # the client connects again, and goes on where it was
                return
            if not updates:
                yield ": still here\n\n"
            for update in updates:
                yield _event(update)
    finally:
        watcher.leave(listener)


def socket(watcher: Watcher, access: Access) -> Callable[[WebSocket], Awaitable[None]]:
    """Messages `{"id": …, "alert": {…}}`; `?after=` that id goes on where a connection broke."""

    async def endpoint(websocket: WebSocket) -> None:
        if refused := _refused(access, _key_of(websocket)):
            await websocket.send_denial_response(
                JSONResponse({"error": refused.detail}, refused.status_code, headers=refused.headers)
            )
            return
        try:
            listener = watcher.join()
        except TooMany:
            body = {"error": "too many live connections"}
            await websocket.send_denial_response(JSONResponse(body, 503, headers={"Retry-After": "10"}))
            return
        try:
            offered = websocket.scope.get("subprotocols") or []
            await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
            await _until_either_ends(_send(websocket, watcher, listener), _receive(websocket))
        finally:
            watcher.leave(listener)

    return endpoint


async def _until_either_ends(*both: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(one) for one in both]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except WebSocketDisconnect:
        return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(websocket: WebSocket, watcher: Watcher, listener: Listener) -> None:
    updates = await _first(watcher, _number(websocket.query_params.get("after")))
    while True:
        for update in updates:
            await websocket.send_text(f'{{"id": {update.number}, "alert": {update.alert}}}')
        updates = await listener.take(QUIET)
        if listener.lost:
            await websocket.close(1013, "too slow: connect again with ?after= the last id")
            return


async def _receive(websocket: WebSocket) -> None:
    """What the other side says means nothing; that it has gone does."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def _first(watcher: Watcher, after: int | None) -> list[Update]:
    if after is None:
        return await run_in_threadpool(watcher.now, NEWEST)
    return await run_in_threadpool(watcher.since, after)


def _event(update: Update) -> str:
    return f"id: {update.number}\nevent: alert\ndata: {update.alert}\n\n"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else None


def _refused(access: Access, authorization: str | None) -> HTTPException | None:
    key = access.key_of(authorization)
    if wait := access.wait(key):
        return HTTPException(429, "too many requests", headers={"Retry-After": str(wait)})
    if key is None:
        return HTTPException(401, "an API key is needed", headers={"WWW-Authenticate": "Bearer"})
    return None


def _key_of(connection: HTTPConnection) -> str | None:
    """The key's header, or what stands for it among the subprotocols."""
    found = connection.headers.get("authorization")
    for protocol in connection.scope.get("subprotocols") or []:
        if found is None and protocol.startswith("bearer."):
            found = f"Bearer {protocol.removeprefix('bearer.')}"
    return found
