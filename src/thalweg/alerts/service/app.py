"""The HTTP side of the service, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from thalweg.alerts.manager import AlertManager
from thalweg.alerts.service import endpoints, hooks, live
from thalweg.alerts.service.access import Access, ApiKey, Role
from thalweg.alerts.service.metrics import metrics
from thalweg.alerts.service.openapi import document
from thalweg.alerts.service.requests import BadRequest, SafeHeaders, SizeLimit
from thalweg.alerts.service.watcher import Watcher
from thalweg.alerts.store.base import Changes, Entry
from thalweg.errors import ConfigurationError, ConnectorError, ThalwegError

logger = logging.getLogger(__name__)

Endpoint = Callable[[AlertManager, Request, str], Any]
MAX_BODY = 5 * 1024 * 1024
AUDIT = "service"
"""Under which the calls that changed something are kept in the store's audit trail."""


def build(
    manager: AlertManager,
    keys: Sequence[ApiKey],
    *,
    slack_signing_secret: str | None = None,
    per_minute: int = 1_200,
    close: bool = False,
) -> Starlette:
    """The service over a manager.

    Args:
        keys: who may come; there is no access without one.
        slack_signing_secret: takes what Slack's buttons send; without it that endpoint does not exist.
        per_minute: requests of one key.
        close: whether to close the manager when the service ends.
    """
    access = Access(keys, per_minute)
    guard = _Guard(manager, access)
    watcher = Watcher(manager)
    routes: list[BaseRoute] = [
        Route(path, guard(role, call), methods=[method]) for method, path, role, call in endpoints.TABLE
    ]
    routes += [
        Route("/healthz", _health(manager)),
        Route("/openapi.json", lambda request: JSONResponse(document())),
        Route("/metrics", guard(Role.VIEWER, lambda m, r, who: PlainTextResponse(metrics(m)))),
        Route("/api/v1/stream", live.stream(watcher, access)),
        WebSocketRoute("/api/v1/ws", live.socket(watcher, access)),
        Route("/api/v1/audit", guard(Role.ADMIN, _audit)),
    ]
    if slack_signing_secret is not None:
        routes.append(Route("/slack/actions", hooks.slack(manager, slack_signing_secret), methods=["POST"]))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        manager.start_delivery()
        try:
            yield
        finally:
            await run_in_threadpool(watcher.close)
            if close:
                await run_in_threadpool(manager.close)

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(SafeHeaders), Middleware(SizeLimit, longest=MAX_BODY)],
        exception_handlers={HTTPException: _refused, ThalwegError: _failed},
    )
    app.state.watcher = watcher
    return app


class _Guard:
    """Lets a request through to its endpoint if its key may call it; notes what it changed."""

    def __init__(self, manager: AlertManager, access: Access) -> None:
        self._manager = manager
        self._access = access

    def __call__(self, role: Role, call: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            key = self._access.key_of(request.headers.get("authorization"))
            if wait := self._access.wait(key):
                raise HTTPException(429, "too many requests", headers={"Retry-After": str(wait)})
            if key is None:
                raise HTTPException(401, "an API key is needed", headers={"WWW-Authenticate": "Bearer"})
            if key.role < role:
                raise HTTPException(
                    403, f"this needs the role {role.name.lower()}; {key.name!r} is {key.role.name.lower()}"
                )
            if request.method in ("POST", "PUT"):
                request.state.body = await _json(request)
            found = await run_in_threadpool(call, self._manager, request, key.name)
            if request.method != "GET":
                await run_in_threadpool(self._note, request, key.name)
            return found if isinstance(found, Response) else JSONResponse(found)

        return endpoint

    def _note(self, request: Request, who: str) -> None:
        entry = Entry(AUDIT, self._manager.now(), f"{request.method} {request.url.path}", who)
        self._manager.store.apply(Changes(entries=[entry]))


async def _json(request: Request) -> Any:
    body = await request.body()
    if not body:
        return {}
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON: {error}") from error


def _audit(manager: AlertManager, request: Request, who: str) -> Any:
    entries = manager.store.entries(AUDIT)[-1_000:]
    return {"calls": [{"at": e.at, "call": e.what, "by": e.by} for e in reversed(entries)]}


def _health(manager: AlertManager) -> Callable[[Request], Awaitable[Response]]:
    """200 while the store answers and delivery runs; it says nothing else to whoever asks."""

    async def endpoint(request: Request) -> Response:
        try:
            await asyncio.wait_for(run_in_threadpool(manager.store.counts), 5)
            good = manager.delivery_error() is None
        except (ConnectorError, TimeoutError):
            good = False
        return JSONResponse({"status": "ok" if good else "failing"}, 200 if good else 503)

    return endpoint


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, BadRequest):
        return JSONResponse({"error": str(error)}, error.status)
    if isinstance(error, ConfigurationError):
        return JSONResponse({"error": str(error)}, 404 if "there is no" in str(error) else 409)
    logger.error("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"error": str(error)}, 503)
