"""What other systems send without a key of ours: Slack's buttons, which prove themselves by their signature."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from thalweg.alerts.channels.slack import verify
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.severity import Status
from thalweg.errors import ConfigurationError


def slack(manager: AlertManager, signing_secret: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint for interactive components: acknowledges or resolves what a button names, in the user's name."""

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        if not verify(signing_secret, dict(request.headers), body, now=time.time()):
            return JSONResponse({"error": "this does not come from Slack"}, 401)
        try:
            payload = json.loads(parse_qs(body.decode())["payload"][0])
            who = "slack:" + str(payload["user"]["username"] or payload["user"]["id"])[:100]
            actions = [(str(a["action_id"]), str(a["value"])) for a in payload["actions"]]
        except (KeyError, IndexError, TypeError, ValueError):
            return JSONResponse({"error": "no interactive payload"}, 400)
        said = [await run_in_threadpool(_act, manager, action, id, who) for action, id in actions]
        return JSONResponse({"response_type": "ephemeral", "text": "\n".join(said)})

    return endpoint


def _act(manager: AlertManager, action: str, id: str, who: str) -> str:
    act: dict[str, Callable[[str, str], Any]] = {"acknowledge": manager.acknowledge, "resolve": manager.resolve}
    if action not in act:
        return f"unknown action {action!r}"
    try:
        act[action](id, who)
    except ConfigurationError as error:
        alert = manager.get(id)
        done = {"acknowledge": Status.ACKNOWLEDGED, "resolve": Status.RESOLVED}[action]
        if alert is None or alert.status is not done:
            return str(error)
        by = alert.acknowledged_by if done is Status.ACKNOWLEDGED else alert.resolved_by
        return f"{by} has {done} it already"
    return f"{action}d" if action.endswith("e") else action
