"""What requests have to be like, and what answers say to browsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from thalweg.errors import ThalwegError


class BadRequest(ThalwegError):
    """A request that can't be served as it is; `status` is an HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def body_of(request: Request) -> Mapping[str, Any]:
    """The request's JSON object.

    Raises:
        BadRequest: it is something else.
    """
    body = request.state.body
    if not isinstance(body, Mapping):
        raise BadRequest("the body is to be a JSON object")
    return body


def text_of(body: Mapping[str, Any], name: str, *, required: bool = False) -> str | None:
    """A text of the body.

    Raises:
        BadRequest: it is missing, or no text.
    """
    value = body.get(name)
    if value is None and not required:
        return None
    if not isinstance(value, str) or (required and not value.strip()):
        raise BadRequest(f"{name!r} is to be a text" + (", and is needed" if required else ""))
    if len(value) > 10_000:
        raise BadRequest(f"{name!r} has more than 10,000 characters")
    return value


def time_of(body: Mapping[str, Any], name: str) -> int | str | None:
    """A time of the body: ms UTC, or a text that says it.

    Raises:
        BadRequest: it is something else.
    """
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
        raise BadRequest(f"{name!r} is to be a time: ms UTC, or a text such as 2026-12-24T09:00")
    return value


def number_of(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query, from 1 on.

    Raises:
        BadRequest: it is none, or too large.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 1 <= int(text[:12]) <= most:
        raise BadRequest(f"{name!r} is to be a whole number from 1 to {most}")
    return int(text)


class SizeLimit:
    """Refuses bodies that are too large, also where no length was announced."""

    def __init__(self, app: ASGIApp, longest: int) -> None:
        self._app = app
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._longest:
                raise BadRequest(f"the body has more than {self._longest} bytes", 413)
            return message

        await self._app(scope, limited, send)


class SafeHeaders:
    """Answers are data: nobody is to frame them, sniff their type, or keep them."""

    HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
