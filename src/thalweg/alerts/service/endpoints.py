"""What the API can be asked. Each endpoint runs in a thread; what it returns is the JSON of the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from thalweg.alerts.alert import Alert
from thalweg.alerts.external import of_alertmanager
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.message import Kind, Message
from thalweg.alerts.oncall import Schedule
from thalweg.alerts.rules import AlertRule, Severity, Status
from thalweg.alerts.service.access import Role
from thalweg.alerts.service.requests import BadRequest, body_of, number_of, text_of, time_of
from thalweg.errors import ConfigurationError, ConnectorError

_DAY = 86_400_000


def alerts(manager: AlertManager, request: Request, who: str) -> Any:
    """The newest alerts first. `cursor` of an answer gives the next page."""
    query = request.query_params
    try:
        status = [Status(one) for one in query.getlist("status")]
        severity = Severity(query["severity"]) if "severity" in query else None
    except ValueError as error:
        raise BadRequest(str(error)) from error
    limit = number_of(request, "limit", 100, 1_000)
    found = manager.list(
        status=status or None,
        severity=severity,
        rule=query.get("rule"),
        before=_cursor(query.get("cursor")),
        limit=limit,
    )
    cursor = f"{found[-1].event_time}.{found[-1].id}" if len(found) == limit else None
    return {"alerts": [alert.payload() for alert in found], "cursor": cursor}


def _cursor(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    time, dot, id = text.partition(".")
    if not dot or not time.lstrip("-").isdecimal():
        raise BadRequest("'cursor' is to be that of an earlier answer")
    return int(time), id


def counts(manager: AlertManager, request: Request, who: str) -> Any:
    """How many alerts are in each status."""
    return {"counts": manager.store.counts()}


def alert(manager: AlertManager, request: Request, who: str) -> Any:
    """One alert, its audit trail, and what channels were told."""
    found = _found(manager, request)
    told = [
        {"channel": n.channel, "kind": n.kind, "state": n.state, "attempts": n.attempts, "due": n.due, "error": n.error}
        for n in manager.notifications(found.id)
    ]
    return {**found.payload(), "history": manager.history(found.id), "notifications": told}


def explanation(manager: AlertManager, request: Request, who: str) -> Any:
    """Why the alert is what it is, as text."""
    return {"explanation": manager.explain(_found(manager, request).id)}


def _found(manager: AlertManager, request: Request) -> Alert:
    id = request.path_params["id"]
    found = manager.get(id)
    if found is None:
        raise BadRequest(f"there is no alert {id!r}", 404)
    return found


def act(manager: AlertManager, request: Request, who: str) -> Any:
    """Acknowledges, resolves, opens again, comments, assigns or snoozes an alert, in the name of the key."""
    id, body = _found(manager, request).id, body_of(request)
    reason = text_of(body, "reason")
    actions: Mapping[str, Callable[[], Alert]] = {
        "acknowledge": lambda: manager.acknowledge(id, who, reason),
        "resolve": lambda: manager.resolve(id, who, reason),
        "reopen": lambda: manager.reopen(id, who, reason),
        "comment": lambda: manager.comment(id, who, text_of(body, "text", required=True) or ""),
        "assign": lambda: manager.assign(id, text_of(body, "to"), who),
        "snooze": lambda: manager.snooze(id, text_of(body, "duration", required=True) or "", who, reason),
    }
    action = actions.get(request.path_params["action"])
    if action is None:
        raise BadRequest(f"an alert can be asked to {', '.join(actions)}", 404)
    return action().payload()


def silences(manager: AlertManager, request: Request, who: str) -> Any:
    """The silences that have not ended."""
    return {"silences": [_silence(one) for one in manager.silences]}


def _silence(silence: Any) -> dict[str, Any]:
    shown = {"id": silence.id, "start": silence.start, "end": silence.end, "by": silence.by, "reason": silence.reason}
    return {**shown, "match": [str(matcher) for matcher in silence.matchers]}


def new_silence(manager: AlertManager, request: Request, who: str) -> Any:
    """Sets a silence: `match` (texts such as `host=~"db-.*"`), `duration`, `reason`, and perhaps `start` (ms UTC)."""
    body = body_of(request)
    match, start = body.get("match"), body.get("start")
    if not isinstance(match, list) or not all(isinstance(one, str) for one in match):
        raise BadRequest("'match' is to be a list of texts")
    if start is not None and (isinstance(start, bool) or not isinstance(start, int)):
        raise BadRequest("'start' is to be a time in ms UTC")
    duration, reason = text_of(body, "duration", required=True), text_of(body, "reason", required=True)
    return _silence(manager.silence(match, duration or "", by=who, reason=reason or "", start=start))


def end_silence(manager: AlertManager, request: Request, who: str) -> Any:
    """Ends a silence."""
    manager.unsilence(request.path_params["id"])
    return {"ended": request.path_params["id"]}


def rules(manager: AlertManager, request: Request, who: str) -> Any:
    """The rules, with their versions."""
    return {"rules": [_rule(rule) for rule in manager.rules]}


def _rule(rule: AlertRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "version": rule.version,
        "name": rule.name,
        "severity": str(rule.severity),
        "enabled": rule.enabled,
        "condition": rule.condition if isinstance(rule.condition, str) else None,
        "labels": dict(rule.labels),
        "channels": None if rule.notification_channels is None else list(rule.notification_channels),
        "runbook": rule.runbook,
    }


def schedules(manager: AlertManager, request: Request, who: str) -> Any:
    """The on-call schedules, and who is on call now."""
    now = manager.now()
    found = []
    for schedule in manager.schedules.values():
        person = schedule.on_call(now)
        found.append({"name": schedule.name, "timezone": schedule.timezone, "on_call": person.name if person else None})
    return {"schedules": found}


def overrides(manager: AlertManager, request: Request, who: str) -> Any:
    """The overrides of a schedule that have not ended, the next first."""
    return {"overrides": [asdict(one) for one in manager.overrides(_schedule(manager, request).name)]}


def new_override(manager: AlertManager, request: Request, who: str) -> Any:
    """Has a `person` stand in on a schedule: from `start` (none: now) until `end`, or for a `duration`, with a
    `reason`.
    Times are ms UTC, or texts by the clocks of the schedule."""
    body, name = body_of(request), _schedule(manager, request).name
    person, reason = text_of(body, "person", required=True), text_of(body, "reason", required=True)
    start, end = time_of(body, "start"), time_of(body, "end")
    duration = text_of(body, "duration")
    made = manager.override(name, person or "", by=who, reason=reason or "", start=start, end=end, duration=duration)
    return asdict(made)


def remove_override(manager: AlertManager, request: Request, who: str) -> Any:
    """Ends an override, or keeps it from beginning."""
    id = request.path_params["id"]
    if id not in [one.id for one in manager.overrides(_schedule(manager, request).name)]:
        raise BadRequest(f"there is no override {id!r}", 404)
    manager.remove_override(id, by=who)
    return {"removed": id}


def _schedule(manager: AlertManager, request: Request) -> Schedule:
    found = manager.schedules.get(request.path_params["name"])
    if found is None:
        raise BadRequest(f"there is no schedule {request.path_params['name']!r}", 404)
    return found


def shifts(manager: AlertManager, request: Request, who: str) -> Any:
    """The shifts of a schedule for some days from now, as JSON or (`format=ical`) as a calendar."""
    schedule, start = _schedule(manager, request), manager.now()
    end = start + number_of(request, "days", 14, 366) * _DAY
    if request.query_params.get("format") == "ical":
        from thalweg.alerts.ical import to_ical

        return Response(to_ical(schedule, start, end), media_type="text/calendar")
    return {"shifts": [{"start": s, "end": e, "person": person} for s, e, person in schedule.shifts(start, end)]}


def event(manager: AlertManager, request: Request, who: str) -> Any:
    """Evaluates the rules on one event: `event`, and perhaps `timestamp` (ms UTC) and `origin`. `rules`: how many have
    all the fields that they read; the others are not about it."""
    import asyncio

    body = body_of(request)
    given, timestamp = body.get("event"), body.get("timestamp")
    if not isinstance(given, Mapping) or not given:
        raise BadRequest("'event' is to be an object with fields")
    if timestamp is not None and (isinstance(timestamp, bool) or not isinstance(timestamp, int)):
        raise BadRequest("'timestamp' is to be a time in ms UTC")
    try:
        found = asyncio.run(manager.process_event(given, timestamp=timestamp, origin=text_of(body, "origin")))
    except ConnectorError:
        raise
    except Exception as error:  # a condition that raised, fields that do not go together
        raise BadRequest(f"the rules can't be evaluated on this event: {error}", 422) from error
    return {"alerts": [one.payload() for one in found], "rules": len(manager.rules_about(given))}


def alertmanager(manager: AlertManager, request: Request, who: str) -> Any:
    """Takes the webhook that Alertmanager sends."""
    try:
        found = of_alertmanager(request.state.body, manager.now())
    except ConfigurationError as error:
        raise BadRequest(str(error)) from error
    return {"alerts": [one.id for one in manager.receive(found)]}


def test_channel(manager: AlertManager, request: Request, who: str) -> Any:
    """Sends a test message to a channel, at once."""
    name = request.path_params["name"]
    if name not in manager.channels:
        raise BadRequest(f"there is no channel {name!r}", 404)
    now = manager.now()
    said = f"Test message, sent by {who}"
    test = Alert(f"test-{now}", "test", "", said, Severity.INFO, Status.TRIGGERED, "test", {}, now, now, {})
    started = time.monotonic()
    try:
        manager.channel(name).send(Message(f"test-{now}", Kind.TRIGGERED, test))
    except ConnectorError as error:
        raise BadRequest(str(error), 502) from error
    return {"sent": name, "ms": round((time.monotonic() - started) * 1000)}


TABLE: list[tuple[str, str, Role, Callable[[AlertManager, Request, str], Any]]] = [
    ("GET", "/api/v1/alerts", Role.VIEWER, alerts),
    ("GET", "/api/v1/alerts/counts", Role.VIEWER, counts),
    ("GET", "/api/v1/alerts/{id}", Role.VIEWER, alert),
    ("GET", "/api/v1/alerts/{id}/explain", Role.VIEWER, explanation),
    ("POST", "/api/v1/alerts/{id}/{action}", Role.RESPONDER, act),
    ("GET", "/api/v1/silences", Role.VIEWER, silences),
    ("POST", "/api/v1/silences", Role.RESPONDER, new_silence),
    ("DELETE", "/api/v1/silences/{id}", Role.RESPONDER, end_silence),
    ("GET", "/api/v1/rules", Role.VIEWER, rules),
    ("GET", "/api/v1/schedules", Role.VIEWER, schedules),
    ("GET", "/api/v1/schedules/{name}/shifts", Role.VIEWER, shifts),
    ("GET", "/api/v1/schedules/{name}/overrides", Role.VIEWER, overrides),
    ("POST", "/api/v1/schedules/{name}/overrides", Role.RESPONDER, new_override),
    ("DELETE", "/api/v1/schedules/{name}/overrides/{id}", Role.RESPONDER, remove_override),
    ("POST", "/api/v1/events", Role.RESPONDER, event),
    ("POST", "/api/v1/webhooks/alertmanager", Role.RESPONDER, alertmanager),
    ("POST", "/api/v1/channels/{name}/test", Role.ADMIN, test_channel),
]
"""Method, path, the role that it needs, and what answers."""
