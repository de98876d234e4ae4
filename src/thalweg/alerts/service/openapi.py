"""The API described in OpenAPI 3.1, made from the table of endpoints."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thalweg.alerts.service import endpoints
from thalweg.alerts.service.access import Role

_QUERY = {
    endpoints.alerts: ["status", "severity", "rule", "limit", "cursor"],
    endpoints.shifts: ["days", "format"],
}
_BODY: dict[Any, dict[str, Any]] = {
    endpoints.act: {
        "reason": {"type": "string"},
        "text": {"type": "string", "description": "of a comment"},
        "to": {"type": ["string", "null"], "description": "whom to assign it to"},
        "duration": {"type": "string", "description": "of a snooze, such as 30m"},
    },
    endpoints.new_silence: {
        "match": {"type": "array", "items": {"type": "string"}, "examples": [['host=~"db-.*"']]},
        "duration": {"type": "string", "examples": ["2h"]},
        "reason": {"type": "string"},
        "start": {"type": "integer", "description": "ms UTC"},
    },
    endpoints.event: {
        "event": {"type": "object"},
        "timestamp": {"type": "integer", "description": "ms UTC"},
        "origin": {"type": "string"},
    },
    endpoints.alertmanager: {"alerts": {"type": "array", "items": {"type": "object"}}},
    endpoints.test_channel: {},
}
_NEEDED = {endpoints.new_silence: ["match", "duration", "reason"], endpoints.event: ["event"],
           endpoints.alertmanager: ["alerts"]}  # fmt: skip
_ERRORS = {"401": "no API key", "403": "the key's role is too low", "429": "too many requests"}


def document() -> dict[str, Any]:
    """The description, as served at `/openapi.json`."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, role, call in endpoints.TABLE:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, role, call)
    paths["/api/v1/stream"] = {
        "get": _plain("streamAlerts", "Alerts as they change, as server-sent events.", "text/event-stream")
    }
    paths["/api/v1/ws"] = {
        "get": {
            **_plain("socketOfAlerts", "The same over a WebSocket.", "application/json"),
            "responses": {"101": {"description": 'messages {"id": …, "alert": {…}}'}},
            "parameters": [{"name": "after", "in": "query", "schema": {"type": "integer"}}],
        }
    }
    paths["/metrics"] = {"get": _plain("metrics", "Metrics in Prometheus' text format.", "text/plain")}
    paths["/healthz"] = {"get": {**_plain("health", "Whether the service works.", "application/json"), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Thalweg alerts", "version": _version(), "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _operation(method: str, path: str, role: Role, call: Any) -> dict[str, Any]:
    name = call.__name__
    made: dict[str, Any] = {
        "operationId": name if method == "GET" else f"{method.lower()}_{name}",
        "summary": (call.__doc__ or "").split("\n")[0],
        "description": f"Needs the role {role.name.lower()}.",
        "parameters": [
            {"name": found, "in": "path", "required": True, "schema": {"type": "string"}}
            for found in re.findall(r"{(\w+)}", path)
        ]
        + [{"name": one, "in": "query", "schema": {"type": "string"}} for one in _QUERY.get(call, [])],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}},
            **{code: {"description": text} for code, text in _ERRORS.items()},
        },
    }
    if method == "POST":
        schema = {"type": "object", "properties": _BODY.get(call, {}), "required": _NEEDED.get(call, [])}
        made["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": bool(_NEEDED.get(call))}
    return made


def _plain(name: str, summary: str, media: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "done", "content": {media: {"schema": {"type": "string"}}}}},
    }


def _version() -> str:
    try:
        return version("thalweg")
    except PackageNotFoundError:
        return "unknown"
