"""The API described in OpenAPI 3.1, made from the table of endpoints."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thalweg.alerts.service import endpoints
from thalweg.alerts.service.access import Role
from thalweg.alerts.severity import Severity, Status

_QUERY = {
    endpoints.alerts: ["status", "severity", "rule", "limit", "cursor"],
    endpoints.shifts: ["days", "format"],
}
_MOMENT = {"type": ["integer", "string"], "description": "ms UTC, or by the schedule's clocks: 2026-12-24T09:00"}
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
    endpoints.new_override: {
        "person": {"type": "string"},
        "reason": {"type": "string"},
        "start": _MOMENT,
        "end": _MOMENT,
        "duration": {"type": "string", "examples": ["8h"], "description": "instead of an end"},
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
           endpoints.new_override: ["person", "reason"],
           endpoints.alertmanager: ["alerts"]}  # fmt: skip
_ERRORS = {
    "400": "the request can't be understood",
    "401": "no API key",
    "403": "the key's role is too low",
    "404": "there is no such thing",
    "409": "it can't be done as things are",
    "413": "the body is too large",
    "429": "too many requests; `Retry-After` says when to come again",
    "503": "the store can't be reached",
}
_PATH = {
    "action": {"type": "string", "enum": ["acknowledge", "resolve", "reopen", "comment", "assign", "snooze"]},
}
_TEXT, _TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_ALERT: dict[str, Any] = {
    **dict.fromkeys(["id", "rule", "rule_version", "name", "title", "fingerprint"], _TEXT),
    **dict.fromkeys(["text", "runbook", "reason", "acknowledged_by", "resolved_by", "assignee"], _TEXT_OR_NULL),
    **dict.fromkeys(["event_time", "created"], _TIME),
    "severity": {"type": "string", "enum": [str(one) for one in Severity]},
    "status": {"type": "string", "enum": [str(one) for one in Status]},
    "event": {"type": "object"},
    "labels": {"type": "object", "additionalProperties": _TEXT},
    "snoozed_until": {**_TIME, "type": ["string", "null"]},
    "count": {"type": "integer"},
    "channels": {"type": "array", "items": _TEXT},
}
_ONE = {"$ref": "#/components/schemas/Alert"}


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
    paths["/api/v1/audit"] = {
        "get": {**_plain("audit", "Who called what.", "application/json"), "description": "Needs the role admin."}
    }
    paths["/slack/actions"] = {
        "post": {
            **_plain("slackActions", "What Slack's buttons send; proved by Slack's signature.", "application/json"),
            "security": [],
        }
    }
    paths["/openapi.json"] = {"get": {**_plain("description", "This.", "application/json"), "security": []}}
    paths["/metrics"] = {"get": _plain("metrics", "Metrics in Prometheus' text format.", "text/plain")}
    paths["/healthz"] = {"get": {**_plain("health", "Whether the service works.", "application/json"), "security": []}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Thalweg alerts", "version": _version(), "license": {"name": "Apache-2.0"}},
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Alert": {"type": "object", "properties": _ALERT}},
        },
        "paths": paths,
    }


def _operation(method: str, path: str, role: Role, call: Any) -> dict[str, Any]:
    name = call.__name__
    made: dict[str, Any] = {
        "operationId": name if method == "GET" else f"{method.lower()}_{name}",
        "summary": (call.__doc__ or "").split("\n")[0],
        "description": f"Needs the role {role.name.lower()}.",
        "parameters": [
            {"name": found, "in": "path", "required": True, "schema": _PATH.get(found, {"type": "string"})}
            for found in re.findall(r"{(\w+)}", path)
        ]
        + [{"name": one, "in": "query", "schema": {"type": "string"}} for one in _QUERY.get(call, [])],
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": _answer(call)}}},
            **{code: {"description": text} for code, text in _ERRORS.items()},
        },
    }
    if method == "POST":
        schema = {"type": "object", "properties": _BODY.get(call, {}), "required": _NEEDED.get(call, [])}
        made["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": bool(_NEEDED.get(call))}
    return made


def _answer(call: Any) -> dict[str, Any]:
    if call in (endpoints.act, endpoints.alert):
        return _ONE
    if call is endpoints.alerts:
        properties = {"alerts": {"type": "array", "items": _ONE}, "cursor": _TEXT_OR_NULL}
        return {"type": "object", "properties": properties}
    return {"type": "object"}


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
